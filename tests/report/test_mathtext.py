"""Labels of the catalogues read the same in a figure, in HTML and in plain text."""

import pytest

from report.mathtext import to_html, to_plain


@pytest.mark.parametrize(
    ("label", "html", "plain"),
    [
        (r"$Z$+jets", "Z+jets", "Z+jets"),
        (r"$t\bar{t}V$", "tt̄V", "tt̄V"),
        (r"$m_{\ell\ell}$ [GeV]", "m<sub>ℓℓ</sub> [GeV]", "mℓℓ [GeV]"),
        (r"$Z'\to\mu\mu$", "Z′ → μμ", "Z′ → μμ"),
        (r"$\tilde{\chi}^{0}_{1}$", "χ̃<sup>0</sup><sub>1</sub>", "χ̃01"),
        (r"10.1 fb$^{-1}$", "10.1 fb<sup>−1</sup>", "10.1 fb−1"),
        (r"$E_{T}^{\mathrm{miss}}$", "E<sub>T</sub><sup>miss</sup>", "ETmiss"),
        ("a < b & c", "a &lt; b &amp; c", "a < b & c"),
    ],
)
def test_labels_keep_their_meaning(label: str, html: str, plain: str) -> None:
    assert to_html(label) == html
    assert to_plain(label) == plain


def test_a_label_cannot_smuggle_markup_into_the_page() -> None:
    assert "<" not in to_html("<script>$<b>$</script>").replace("<sub>", "").replace("<sup>", "")
