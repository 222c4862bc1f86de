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
    blind_score: float | None = Field(
        default=None,
        description="collision data above this score are not drawn; by default nothing is blinded",
    )
    png_dpi: int = Field(
        default=160, ge=50, le=600, description="resolution of the PNG files [dots per inch]"
    )
