"""What the page shows: which variables are drawn and which signals are laid over the stacks."""

from pydantic import Field

from fileset.settings import Settings

__all__ = ["DEFAULT_VARIABLES", "ReportSettings"]

DEFAULT_VARIABLES = (
    "met_et",
    "mll",
    "mt2",
    "lep1_pt",
    "lep2_pt",
    "lep3_pt",
    "mlll",
    "njet20",
    "nbjet77",
    "ht",
    "meff",
    "costhstar",
    "lep1_eta",
)


class ReportSettings(Settings):
    """How the results are drawn."""

    variables: tuple[str, ...] = Field(
        default=DEFAULT_VARIABLES,
        description="input variables drawn data against simulation; those a region does not have are passed over",
    )
    all_variables: bool = Field(
        default=False, description="draw every other histogram of the region too, in a folded gallery"
    )
    signals: tuple[str, ...] = Field(
        default=(),
        description="signals laid over the stacks, by process name or group; "
        "empty takes the most abundant one of each of the first families",
    )
    max_overlays: int = Field(
        default=4, ge=0, description="largest number of signals laid over one stack when none are named"
    )
    max_power_figures: int = Field(
        default=16,
        ge=0,
        description="largest number of signals per region that are drawn one by one; more are drawn by families",
    )
    blind: bool = Field(
        default=True,
        description="blind what blind_score and blind_regions name; false unblinds all of it at once",
    )
    blind_score: float | None = Field(
        default=None,
        description="collision data above this score are not shown. By default none: pseudo-data and the published "
        "files may be looked at; a search sets it, here or by region, before it looks",
    )
    blind_regions: tuple[str, ...] = Field(
        default=(),
        description="regions whose collision data are shown nowhere: figures, tables, comparison, cutflow, events",
    )
    blind_sideband: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="of regions in blind_regions the data below the score under which this part of the expected "
        "background lies are compared with simulation in the score all the same, 0.5 or 0.9; null compares none",
    )
    events: tuple[tuple[str, int], ...] = Field(
        default=(),
        description="events whose matrix is drawn: pairs of dataset and eventNumber",
    )
    png_dpi: int = Field(
        default=160, ge=50, le=600, description="resolution of the PNG files [dots per inch]"
    )

    def blinds(self, region: str) -> bool:
        """Whether all data of a region are blinded."""
        return self.blind and region in self.blind_regions

    @property
    def score_limit(self) -> float | None:
        """The score above which data are blinded."""
        return self.blind_score if self.blind else None
