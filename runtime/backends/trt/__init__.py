"""TensorRT engines: their files, the GPU through pycuda, and a session that uses both."""
