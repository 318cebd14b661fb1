"""Modules as ONNX Runtime runs them: exported, in f32 and with weights quantized to int8 (dynamic quantization)."""

import contextlib
import io
import logging
import warnings

import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

KINDS = ("f32", "int8")
# Of the outputs; the export and the module compute the same, in another order.
TOLERANCE = 1e-3


class Exported:
    """A module as a file for each kind, of which sessions are made."""

    def __init__(self, module, inputs, folder, name, dynamic_shapes=None):
        """`inputs` are an example, a list among them counting as several inputs; dimensions are fixed but for `dynamic_shapes`."""
        self.paths = {kind: folder / f"{name}-{kind}.onnx" for kind in KINDS}
        for logger in ("torch.onnx", "onnxscript", "onnx_ir"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(), inputs, self.paths["f32"], dynamic_shapes=dynamic_shapes, external_data=False, verbose=False
            )
            expected = module(*inputs)
        logging.getLogger().setLevel(logging.ERROR)
        quantize_dynamic(self.paths["f32"], self.paths["int8"], weight_type=QuantType.QInt8)
        flat = [value for one in inputs for value in (one if isinstance(one, (list, tuple)) else [one])]
        found = self.session("f32", threads=1)(*flat)[0]
        expected = expected[0] if isinstance(expected, tuple) else expected
        error = (torch.from_numpy(found.numpy()) - expected).abs().max().item()
        if not error < TOLERANCE * max(1.0, expected.abs().max().item()):
            raise RuntimeError(f"the exported {name} is off by {error}")

    def session(self, kind, threads, arena=True):
        """A function of NumPy arrays, tensors or values of ONNX Runtime, that returns such values.

        Without its arena, memory goes back to the system after a call, as it has to for a measurement of the peak.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_cpu_mem_arena = arena
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(self.paths[kind], options, providers=["CPUExecutionProvider"])
        names, outputs = [one.name for one in session.get_inputs()], [one.name for one in session.get_outputs()]

        def value(given):
            if isinstance(given, torch.Tensor):
                given = given.numpy()
            return given if isinstance(given, onnxruntime.OrtValue) else onnxruntime.OrtValue.ortvalue_from_numpy(given)

        def call(*inputs):
            feeds = {name: value(given) for name, given in zip(names, inputs, strict=True)}
            return session.run_with_ort_values(outputs, feeds)

        return call
