"""What `to_trt.py --help` says after the options."""

EXAMPLES = """\
examples:
  to_trt.py runs/iern/ckpt.pt                  writes runs/iern/ckpt.onnx, and with TensorRT
                                               installed ckpt.fp16.onnx and ckpt.fp16.engine
  to_trt.py ckpt.pt -o models/office.onnx      writes them elsewhere
  to_trt.py ckpt.pt --faces DATA               the parity gates use your own faces
  to_trt.py ckpt.pt --prior uniform            for a place where all expressions are equally frequent
  to_trt.py ckpt.pt --prior neutral=0.6        where 60 % are neutral; the others share the rest
  to_trt.py ckpt.pt --strata collapsed         writes ckpt.collapsed.onnx: as fast as with one stratum
  to_trt.py ckpt.pt --licence CC-BY-NC-4.0 --data "CK+, 309 sequences"
  to_trt.py ckpt.pt --precision fp16 --backend none
                                               both ONNX files, to build engines elsewhere
  to_trt.py office.fp16.onnx                   builds office.fp16.engine, without PyTorch: on a Jetson
  to_trt.py ckpt.pt --backend rtx --compute-capability sm_89 sm_120
                                               an engine for these GPUs, on a machine without one
  to_trt.py office.onnx --backend none         only checks an exported file
  to_trt.py ckpt.pt --triton models            writes ckpt.onnx, and models/iern/1 for a Triton server
  to_trt.py office.fp16.onnx --triton models --backend tensorrt
                                               builds office.fp16.engine, and serves that

The command bakes the confounder centres in. It folds BatchNorm, colour order and scale. It computes
once what the strata share (exact, no approximation), and exports one self-describing ONNX file. Then
it runs the same faces through the network as trained (float64, one stratum after another) and through
the file in onnxruntime. If the outputs differ by more than rounding, it writes nothing.

With --strata collapsed the file has one stratum, whose centre is the mean of the network's centres. So
the time does not grow with the number of strata. This is an approximation. On a thousand faces it must
keep 99.5 % of the first expressions, change none that leads by more than a thousandth, and move no
probability by more than 0.01; otherwise nothing is written. Such a file has no disagreement.

For engines it exports a second file. That one is in half precision, except for the sums over maps and
logits. On a thousand faces it must have the same first expressions as float64, the same spread between
strata, and no layer near the end of float16. TensorRT builds from this file and chooses no precision
of its own. If the engine can run on this machine, its outputs must equal the file's.

The files map `image` (batch, S, S, 3), uint8 in OpenCV's BGR, to `probabilities` (batch, E),
`logits` (batch, E) and `stratum_logits` (batch, N, E), for any batch. Their metadata holds labels,
input size, crop, licence, metrics and the checkpoint's sha256. An engine is TensorRT's plan, which
trtexec reads too. Beside it, FILE.engine.json records its source, its options and its GPU; with
--head kernel, FILE.engine.npz holds the weights of the averaging kernel.

With --triton, a copy of the ONNX file becomes the next version in that model repository, with its
configuration and its labels. If an option of the engine is given, the engine is built and copied
instead. A served engine must have been built with --triton, on the server's kind of GPU and with the
version of TensorRT in the server. webcam.py --model triton://HOST:8000/iern then uses the server.

Exit status: 0 if everything is written or sound; 1 with one line on stderr if not; 2 for wrong usage.
"""
