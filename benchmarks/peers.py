"""The same autoencoder in ONNX Runtime, torch and JAX: what `scoring.py` and `training.py` compare with.

ONNX Runtime and torch come with the extra `[bench]` (`pip install -e ".[bench]"`) and are no dependency of anything
else. For Linux on x86 that brings torch with all of CUDA, some gigabytes; pytorch.org tells of the index that has a
build for processors alone. A peer that is not installed is named as absent.

A peer does less than we do: the error of scaled inputs in single precision, no second score, no event again in double
precision. It may have whichever size of batch suits it best.
"""

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.forward import Dense, Stack
from models.reading import cores
from models.settings import TrainingSettings
from models.stream import MemorySample

__all__ = ["Score", "absent", "scorers", "torch_epoch"]

Floats = NDArray[np.float32]
Score = Callable[[Floats], Floats]  # of one batch of features

_MODULES = {"ONNX Runtime": ("onnxruntime", "onnx"), "torch": ("torch",), "JAX": ("jax",)}


def absent() -> list[str]:
    """Names of the peers that are not installed."""
    return [
        name
        for name, modules in _MODULES.items()
        if any(importlib.util.find_spec(module) is None for module in modules)
    ]


def scorers(stack: Stack, offset: Floats, scale: Floats) -> dict[str, Score]:
    """log10 of the mean squared error of (features - offset)/scale by every peer that is installed."""
    makers = {"ONNX Runtime": _onnx, "torch": _torch, "JAX": _jax}
    missing = absent()
    return {name: make(stack, offset, scale) for name, make in makers.items() if name not in missing}


def _onnx(stack: Stack, offset: Floats, scale: Floats) -> Score:
    import onnxruntime  # noqa: PLC0415 - may be absent
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    constants = {"offset": offset, "scale": scale, "log10": np.float32(1 / math.log(10))}
    nodes = [
        helper.make_node("Sub", ["features", "offset"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["scaled"]),
    ]
    last = "scaled"
    for number, layer in enumerate(stack.layers):
        constants |= {f"kernel{number}": layer.kernel, f"bias{number}": layer.bias}
        nodes.append(helper.make_node("Gemm", [last, f"kernel{number}", f"bias{number}"], [f"sum{number}"]))
        last = f"sum{number}"
        if layer.activation == "tanh":
            nodes.append(helper.make_node("Tanh", [last], [f"unit{number}"]))
            last = f"unit{number}"
        if layer.slope is not None:
            nodes.append(helper.make_node("LeakyRelu", [last], [f"leaky{number}"], alpha=layer.slope))
            last = f"leaky{number}"
    nodes += [
        helper.make_node("Sub", [last, "scaled"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["error"], axes=[1], keepdims=0),
        helper.make_node("Log", ["error"], ["logarithm"]),
        helper.make_node("Mul", ["logarithm", "log10"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "autoencoder",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(offset)])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda features: session.run(["score"], {"features": features})[0]


def _torch_layers(layers: tuple[Dense, ...]) -> Any:
    import torch  # noqa: PLC0415 - may be absent

    found: list[Any] = []
    for layer in layers:
        linear = torch.nn.Linear(*layer.kernel.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(np.array(layer.kernel.T)))
            linear.bias.copy_(torch.from_numpy(np.array(layer.bias)))
        found.append(linear)
        found += [torch.nn.Tanh()] if layer.activation == "tanh" else []
        found += [torch.nn.LeakyReLU(layer.slope)] if layer.slope is not None else []
    return torch.nn.Sequential(*found)


def _torch(stack: Stack, offset: Floats, scale: Floats) -> Score:
    import torch  # noqa: PLC0415 - may be absent

    torch.set_num_threads(cores())
    network, low, width = _torch_layers(stack.layers), torch.from_numpy(offset), torch.from_numpy(scale)

    def score(features: Floats) -> Floats:
        with torch.inference_mode():
            scaled = (torch.from_numpy(features) - low) / width
            found: Floats = torch.mean((network(scaled) - scaled) ** 2, dim=1).log10().numpy()
            return found

    return score


def _jax(stack: Stack, offset: Floats, scale: Floats) -> Score:
    import jax  # noqa: PLC0415 - may be absent
    import jax.numpy as jnp  # noqa: PLC0415

    @jax.jit
    def run(features: Any) -> Any:
        scaled = values = (features - offset) / scale
        for layer in stack.layers:
            values = values @ layer.kernel + layer.bias
            values = jnp.tanh(values) if layer.activation == "tanh" else values
            values = values if layer.slope is None else jax.nn.leaky_relu(values, layer.slope)
        return jnp.log10(jnp.mean((values - scaled) ** 2, axis=1))

    return lambda features: np.asarray(run(features))


def torch_epoch(
    sample: MemorySample, settings: TrainingSettings, stack: Stack
) -> Callable[[], tuple[int, float]]:
    """An epoch of a plain torch loop on a sample in memory: same layers, loss with weights, Adam, shuffled.

    Returns:
        A function that trains once over all whole batches and gives their events and the mean loss.
    """
    import torch  # noqa: PLC0415 - may be absent

    torch.set_num_threads(cores())
    torch.manual_seed(1)
    network = _torch_layers(stack.layers)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, eps=1e-7)
    train_split = sample.arrays["train"]
    features, weight = map(torch.from_numpy, (train_split.features, train_split.training_weight))
    size = settings.batch_size

    def epoch() -> tuple[int, float]:
        order, total, steps = torch.randperm(len(weight)), 0.0, len(weight) // size
        for step in range(steps):
            rows = order[step * size : (step + 1) * size]
            batch = features[rows]
            optimiser.zero_grad(set_to_none=True)
            loss = torch.mean(weight[rows] * torch.mean((network(batch) - batch) ** 2, dim=1))
            loss.backward()
            optimiser.step()
            total += loss.item()
        return steps * size, total / steps

    return epoch
