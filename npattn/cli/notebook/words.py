"""What the notebook says and runs that is not in a docstring, a page or a sheet."""

INTRODUCTION = {
    "en": """\
# The climb: attention and the Transformer, every backward by hand

This notebook is the package npattn as a lesson: first how gradients work, then each layer and each version of
attention, up to the whole Transformer and the attention of today's models. Every derivation is followed by the code
that carries it out, an example small enough to compute on paper, every number of its backward pass, and a gradient
check.

**How to run it.** The package must be installed: `pip install "npattn[notebook]"`. Run the first cell of code
below. After that each section runs by itself: go to its top and press Shift+Enter cell by cell. The outputs appear
when you run a cell; all cells together take less than a minute. Nothing is written and nothing is loaded from the
network.

**You may change everything.** The functions in a section are the source of the package. Change a line and run the
section's gradient check: it says which gradient is wrong then. Two functions or arrays of different sections may
have the same name, so go back to the top of a section when you come from another.

**Exercises.** Replace each `...` and run the cell below it, which says in words what is wrong. Derive on paper
first. Hints and the solution open by a click.

**Notation.** $L$ is the loss, and $dZ$ means $\\partial L/\\partial Z$ for every letter $Z$. $\\odot$ multiplies
entry by entry. $1$ in a matrix product is a column of ones. A row of a matrix is one vector.
""",
    "zh": """\
# 攀登：注意力与 Transformer，每个反向传播都手写

这个笔记本把 npattn 包写成一门课：先讲梯度，再讲每个层和注意力的每个版本，直到整个 Transformer 和今天的模型的注\
意力。每个推导之后是执行它的代码、一个可以在纸上算出的小例子、反向传播的每个数，以及一次梯度检查。基础部分是中文，\
各层和各版本的推导是英文。

**如何运行。** 先安装：`pip install "npattn[notebook]"`。运行下面的第一个代码单元，之后每一节都可以单独运行：回\
到这一节的开头，逐个单元按Shift+Enter。运行后才有输出；全部运行不到一分钟。不写任何文件，也不访问网络。

**什么都可以改。** 每节里的函数就是包的源代码。改一行，再运行这一节的梯度检查：它会说哪个梯度错了。不同的节可能\
用同样的名字，所以换节时要从那一节的开头运行。

**练习。** 把每个 `...` 换成你的代码，再运行它下面的单元，它会用文字说哪里错了。先在纸上推导。点击可打开提示和解\
答。

**记号。** $L$ 是损失，对每个字母 $Z$，$dZ$ 表示 $\\partial L/\\partial Z$。$\\odot$ 逐项相乘。矩阵乘积中的 $1$ \
是全为 1 的列。矩阵的一行是一个向量。
""",
}

TRACE = """\
**Every number.** The functions of the package run on the arguments of the example, statement by statement. Each
matrix stands beside its gradient, with the line of code that makes it. Put your own `(forward, backward)` in place
of the first argument to trace the cells above after a change. The picture has the same matrices, with their
gradients below them. In a cell of your own, `npattn.explore("{name}")` shows a page where you can point at a number
and see what it is made of."""
CHECK = """\
**Gradient check.** The numbers of an example on paper are special, and special numbers hide mistakes. So the functions
of the cells above are checked at random ones."""
TRAINED = """\
**A trained model.** The package has a model that reads English spelling and writes phonemes. Each map is a head of its
last cross-attention: a row is a step of the decoder, and its weights over the letters sum to 1."""
TRAINED_CODE = """\
model = npattn.load_model("g2p")
word = "knight"
A = model.attention_weights(word)[f"decoder.{model.transformer.config.n_decoder_layers - 1}.cross_attention"]
npattn.plot.heads(A, [*model(word).split(), "end"], model.codec.tokenize(word))[0].figure
"""

#: Pictures of what is no forward with a backward.
PICTURES = {
    "causal_mask+padding_mask": """\
mask = npattn.causal_mask(6) & npattn.padding_mask(np.array([4]), 6)[0, 0]
npattn.plot.attention_map(npattn.layers.softmax(np.zeros((6, 6)), mask), mask=mask, numbers=True).figure
""",
    "positions": "npattn.plot.positions(npattn.sinusoidal_positions(60, 32)).figure",
}

#: The first cell of code. `draw` takes what `npattn.trace` returns.
FIRST_CODE = '''\
import matplotlib.pyplot
import numpy as np

import npattn
from npattn.learn.notebook import check  # for the exercises

matplotlib.pyplot.show()  # of nothing: from now on Jupyter shows figures


def at_random(args):
    """Random numbers in place of the floating arrays in args."""
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=a.shape) if getattr(a, "dtype", None) == float else a for a in args)


def draw(found, columns=5):
    """Draw the matrices of a trace in the order of the formula, and the gradient below each."""
    shown = [v for v in found.values() if v.array is not None and v.gradient is not None and v.array.size]
    shown = [v for v in shown if v.array.shape == v.gradient.shape and v.array.dtype == float]
    columns = min(columns, len(shown))
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    names = [[d + v.name for v in row] + ["."] * (columns - len(row)) for row in rows for d in ("", "d")]
    axes = npattn.plot.mosaic(names, 1.6 * columns + 2, 1.5 * len(names))
    for d, what, side in (("", "matrices", "left"), ("d", "gradients", "right")):
        arrays = {d + v.name: v.gradient if d else v.array for v in shown}
        limit = max(np.abs(array).max() for array in arrays.values()) or 1.0
        for name, array in arrays.items():
            ax = npattn.plot.signed_map(array.reshape(-1, (1, *array.shape)[-1]), limit=limit, ax=axes[name])
            npattn.plot.title(ax, name)
            ax.set(xlabel="", ylabel="", xticks=[], yticks=[])
        npattn.plot.colour_bar([axes[name] for name in arrays], what, location=side)
    return ax.figure
'''
