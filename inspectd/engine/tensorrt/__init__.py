"""The backend on a GPU, with TensorRT or TensorRT-RTX.

gpu          the pipeline of copies and inferences; buffers (of a frame at work), cuda (the driver, by pycuda)
start        from a bundle to a running backend
cache        finds proven plans; builder is the child process that builds and proves what is missing
proof        a plan at work, compared with the CPU; plans (their files)
api          the library: plans out of graphs, inferences out of plans
bare         what the GPU can do alone, for comparison
"""
