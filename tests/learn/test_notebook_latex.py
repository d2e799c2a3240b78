"""From the formulas of docstrings and pages to LaTeX: samples, and every formula of the package."""

from __future__ import annotations

import doctest
import re
import unicodedata
from collections.abc import Iterator

import pytest

from npattn.cli.explain import pages, topics
from npattn.learn.exercises import NAMES, read
from npattn.learn.notebook.latex import SIGNS, Piece, blocks_in_latex, formula_in_latex, pieces, prose_in_latex

SAMPLES = [
    (
        "Each row of A is a mean; a row sums to 1. A row, a W_K, merge(Y) W_O, A and B. 以 a 为。",
        "Each row of $A$ is a mean; a row sums to 1. A row, a $W_{K}$, "
        r"$\operatorname{merge}(Y)\, W_{O}$, $A$ and $B$. 以 $a$ 为。",
    ),
    (
        "A = softmax(E) and a ⊙ (da − aᵀda), with A_n.",
        r"$A = \operatorname{softmax}(E)$ and $a \odot (da - a^{\top}da)$, with $A_{n}$.",
    ),
    (
        "dX_nd += de_n q_d / √D_Q: X is used twice",
        r"$dX_{nd} \mathrel{+}= de_{n}\, q_{d} / \sqrt{D_{Q}}$: $X$ is used twice",
    ),
    (
        "X's rows don't do W_Kᵀ's work; the N-th of v5 (F9), float64, 1-D and Conv1d.",
        r"$X$'s rows don't do $W_{K}^{\top}$'s work; the N-th of v5 (F9), float64, 1-D and Conv1d.",
    ),
    (
        "K = [K_past; f R split(X W_K)] keys of all N_X = P + N_Q positions",
        r"$K = [K_{\mathrm{past}}; f\, R \operatorname{split}(X\, W_{K})]$ keys of all $N_{X} = P + N_{Q}$ "
        "positions",
    ),
    (
        "dK_past, X_last, dK_R_past and Q_R,h, C_pastᵀ",
        r"$dK_{\mathrm{past}}$, $X_{\mathrm{last}}$, $dK_{R,\mathrm{past}}$ and $Q_{R,h}$, $C_{\mathrm{past}}^{\top}$",
    ),
    (
        "q̂_t, k̂_t = q_t/√(|q_t|² + ε) and dK̃ = dS̃ − β_t w k̂_tᵀ",
        r"$\hat{q}_{t}$, $\hat{k}_{t} = q_{t}/\sqrt{\vert q_{t}\vert^{2} + \varepsilon}$ and $d\tilde{K} = "
        r"d\tilde{S} - \beta_{t}\, w\, \hat{k}_{t}^{\top}$",
    ),
    (
        "dα_t = ⟨dS̃, S_{t−1}⟩,  dk̂_t −= β_t S̃ᵀ w",
        r"$d\alpha_{t} = \langle d\tilde{S}, S_{t-1}\rangle$,  $d\hat{k}_{t} \mathrel{-}= \beta_{t}\, "
        r"\tilde{S}^{\top}\, w$",
    ),
    (
        "dV_g = Σ_{h in g} A_hᵀ dY_h, Σ_{n: ids_n = v} dY_n, lim_{h→0} and x_{n−C+1+j}",
        r"$dV_{g} = \sum_{h \ \mathrm{in}\  g} A_{h}^{\top}\, dY_{h}$, $\sum_{n: \mathrm{ids}_{n} = v} "
        r"dY_{n}$, $\lim_{h\to0}$ and $x_{n-C+1+j}$",
    ),
    (
        "exp E_in / (exp sinks_h + Σ_m exp E_im), max_k E_ik, Σ a = 1, √Σ x² and √Σ_n x_n² + 1",
        r"$\exp E_{in} / (\exp \mathrm{sinks}_{h} + \sum_{m} \exp E_{im})$, $\max_{k} E_{ik}$, $\sum a = 1$, "
        r"$\sqrt{\sum x^{2}}$ and $\sqrt{\sum_{n} x_{n}^{2}} + 1$",
    ),
    (
        "P[n, 2i] = sin(n / 10000^(2i/D)), base' = base · s^(R/(R−2)), θ'_i = θ_i/s",
        r"$P[n, 2i] = \sin(n / 10000^{2i/D})$, $\mathrm{base}' = \mathrm{base} \cdot s^{R/(R-2)}$, "
        r"$\theta'_{i} = \theta_{i}/s$",
    ),
    (
        "∂A_ij/∂E_ik = A_ij (δ_jk − A_ik), Σ_j dZ_j ∂Z_j/∂X_i",
        r"$\partial A_{ij}/\partial E_{ik} = A_{ij} (\delta_{jk} - A_{ik})$, $\sum_{j} dZ_{j}\, \partial "
        r"Z_{j}/\partial X_{i}$",
    ),
    (
        "β₁ᵗ, x³, ½², 10⁻¹⁹, M⁻ᵀ dU, ε = 1e-6 and 2.5e-3 x",
        r"$\beta_{1}^{t}$, $x^{3}$, $(\frac{1}{2})^{2}$, $10^{-19}$, $M^{-\top}\, dU$, $\varepsilon = 10^{-6}$ and "
        r"$2.5 \cdot 10^{-3}\, x$",
    ),
    (
        "½ (1 + tanh z) = σ(2z), tanh' = 1 − tanh², f'(x) = −½ r³, log log', ⌊h H_K/H⌋ ± 1",
        r"$\frac{1}{2} (1 + \tanh z) = \sigma(2z)$, $\tanh' = 1 - \tanh^{2}$, $f'(x) = -\frac{1}{2} r^{3}$, "
        r"log $\log'$, $\lfloor h\, H_{K}/H\rfloor \pm 1$",
    ),
    (
        "dX = dR + f_backward(dF), norm_backward(dY), M = norm(encoder layers(S)), silu'(z)",
        r"$dX = dR + \operatorname{f\_backward}(dF)$, $\operatorname{norm\_backward}(dY)$, $M = "
        r"\operatorname{norm}(\operatorname{encoder\ layers}(S))$, $\operatorname{silu}'(z)$",
    ),
    (
        "`dW[ids] += dY`, [F9](#f9), **through μ**, <eos> and W_E[v]_d of n_heads",
        r"`dW[ids] += dY`, [F9](#f9), **through $\mu$**, \<eos> and $W_{E}[v]_{d}$ of n_heads",
    ),
    (
        "logits = Y W, the logits z, dW = Yᵀ dlogits, over i ≥ t > j: the score −∞, −1, [8, 4], (1), 3 · 4",
        r"$\mathrm{logits} = Y\, W$, the logits $z$, $dW = Y^{\top}\, \mathrm{dlogits}$, over $i \ge t \gt "
        r"j$: the score $-\infty$, −1, [8, 4], (1), $3 \cdot 4$",
    ),
    (
        "x_π(j) → y_j, 0 … i + offset, (…, N, H·D) → (…, H, N, D), m(a, b), see npattn.layers.softmax, "
        "appendix A.1.2",
        r"$x_{\pi(j)} \to y_{j}$, $0 \ldots i + \mathrm{offset}$, $(\ldots, N, H\cdot D) \to (\ldots, H, N, "
        "D)$, $m(a, b)$, see npattn.layers.softmax, appendix A.1.2",
    ),
    (
        "X = 2 · the number, dF = dD ⊙ the factors, (dX ⊙ the factors), with a the weights, ‖gᵢ‖ < 1",
        r"$X = 2$ · the number, $dF = dD$ ⊙ the factors, ($dX$ ⊙ the factors), with a the weights, $\Vert "
        r"g_{i}\Vert \lt 1$",
    ),
]

#: The commands of LaTeX that formulas may have: MathJax and KaTeX know them all.
COMMANDS = set(
    re.findall(
        r"\w+",
        "hat tilde sum sqrt frac partial odot cdot times pm le ge lt gt ne approx in to leftarrow ldots infty vert "
        "Vert lfloor rfloor langle rangle ell alpha beta gamma delta varepsilon eta theta lambda mu pi sigma varphi "
        "Phi top exp log ln sin cos tanh max min lim operatorname mathrm mathrel text quad qquad begin end",
    )
)
SIGN_OF = {command: sign for sign, command in SIGNS.items()}
COMMAND = re.compile("|".join(rf"{re.escape(command)}(?![A-Za-z])" for command in SIGN_OF if command[0] == "\\"))
#: Raised and lowered letters as plain ones.
PLAIN = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ᵗᵀ₀₁₂₃₄₅₆₇₈₉ᵢ", "0123456789−tᵀ0123456789i")


def texts() -> Iterator[str]:
    """Yield the texts of the package without code and doctests."""
    for text in sources():
        prose = re.sub("```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
        yield "".join(part for part in doctest.DocTestParser().parse(prose) if isinstance(part, str))


def sources() -> Iterator[str]:
    """Yield every text of the package that has formulas: docstrings, pages in both languages, exercises."""
    for topic in topics.topics().values():
        yield topics.docstring_of(topic.module)
        yield from (topics.docstring_of(member) for member in topic.members)
    for page in pages.PAGES:
        for language in ("en", "zh"):
            yield pages.markdown(page, language)
    for exercise in map(read, NAMES):
        yield from (exercise.question, *exercise.hints)


@pytest.fixture(scope="module")
def found() -> set[Piece]:
    return {piece for text in dict.fromkeys(texts()) for piece in pieces(text)}


@pytest.fixture(scope="module")
def formulas(found: set[Piece]) -> list[str]:
    return [piece.text for piece in found if piece.is_formula]


def letters(text: str) -> str:
    """Return the letters and signs of a formula, in Unicode or in LaTeX: without spaces, brackets and heights."""
    text = re.sub(r"(?<![\d.])1e(-?\d+)", r"10\1", text).replace("0e-", "0·10-")
    text = COMMAND.sub(lambda found: SIGN_OF[found[0]], text)
    text = text.replace("\\top", "ᵀ").replace("\\mathrel", "").replace("\\operatorname", "").replace("\\mathrm", "")
    for command, accent in (("hat", "\u0302"), ("tilde", "\u0303")):
        text = re.sub(rf"\\{command}{{(\w)}}", rf"\1{accent}", text)
    text = re.sub(r"\\(exp|log|ln|sin|cos|tanh|max|min|lim)(?![a-z])", r"\1", text)
    return re.sub(r"[\s(){}_^,\\]", "", unicodedata.normalize("NFD", text).translate(PLAIN).replace("−", "-"))


@pytest.mark.parametrize(("text", "expected"), SAMPLES)
def test_samples(text: str, expected: str) -> None:
    assert prose_in_latex(text) == expected


def test_every_formula_of_the_package_becomes_known_commands_in_balanced_braces(formulas: list[str]) -> None:
    assert len(formulas) > 1500
    for formula in formulas:
        latex = formula_in_latex(formula)
        assert latex.isascii(), (formula, latex)
        assert set(re.findall(r"\\([A-Za-z]+)", latex)) <= COMMANDS, (formula, latex)
        depths = [latex[: place + 1].count("{") - latex[: place + 1].count("}") for place in range(len(latex))]
        plain = latex.replace("\\{", "").replace("\\}", "")
        assert plain.count("{") == plain.count("}") and min(depths) >= 0, (formula, latex)
        assert not re.search(r"\^\{[^{}]*\}\^|_\{[^{}]*\}_|[$%&#]", latex), (formula, latex)    # one height twice


def test_no_formula_loses_a_letter_or_sign(formulas: list[str]) -> None:
    for formula in formulas:
        assert letters(formula_in_latex(formula)) == letters(formula), formula


def test_no_sign_of_mathematics_is_left_in_prose(found: set[Piece]) -> None:
    """A sign beside a word, as in `2 · the number` and `1/√step`, stays."""
    left = [piece.text for piece in found if not piece.is_formula]
    assert [text for text in left if re.search(r"[ᵀ⁻⁰¹³₁₂Σ\u0302\u0303]|[A-Z]_[A-Z]\b", text)] == []


def test_a_block_with_words_becomes_a_table() -> None:
    block = """\
    K = [K_past; split(X W_K)]  keys | of a past
    V = [V_past; split(X W_V) ] values
    q_1 = x + y + z + w + v +u, k_t
    Y = A V                     a mean,  one for each
    A = E  or   F               weights
                                dK = s,  dV = t           see v5"""
    assert blocks_in_latex(block).splitlines() == [
        "| | | |",
        "|:--|:--|:--|",
        r"| $K = [K_{\mathrm{past}}; \operatorname{split}(X\, W_{K})]$ | keys \| of a past |  |",
        r"| $V = [V_{\mathrm{past}}; \operatorname{split}(X\, W_{V}) ]$ | values |  |",
        r"| $q_{1} = x + y + z + w + v +u$, $k_{t}$ |  |  |",
        r"| $Y = A\, V$ | a mean,  one for each |  |",
        r"| $A = E$  or   $F$ | weights |  |",
        r"|  | $dK = s$,  $dV = t$ | see v5 |",
    ]


def test_a_block_of_formulas_becomes_a_display() -> None:
    assert blocks_in_latex("    X → Z") == "$$\nX \\to Z\n$$"
    block = "    u = x,  v = x          F5, F7  (1)\n      = y_1                           (2)\n    Z = X"
    assert blocks_in_latex(block).splitlines() == [
        "$$",
        r"\begin{aligned}",
        r"& u = x,\quad v = x && \text{F5, F7} && \qquad\text{(1)} \\",
        r"& \qquad = y_{1} &&  && \qquad\text{(2)} \\",
        "& Z = X",
        r"\end{aligned}",
        "$$",
    ]


def test_prose_keeps_its_lists_and_joins_its_lines() -> None:
    text = "A mean of W_K\nand b_n.\n\n- g is\n  one, Q.\n- x\n1. y\n\n## K_n"
    expected = "A mean of $W_{K}$ and $b_{n}$.\n\n- $g$ is one, $Q$.\n- $x$\n1. $y$\n\n## $K_{n}$"
    assert blocks_in_latex(text) == expected
