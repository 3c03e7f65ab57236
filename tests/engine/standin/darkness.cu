// The network of tests/bundles.py (4x4 cells, 255 - mean, minus 64 for each further class) as two kernels: a
// stand-in engine for tests of the pipeline on a real GPU that TensorRT does not support. Compiled with
//   nvcc -ptx -arch=compute_75 darkness.cu -o darkness.ptx
// and the .version of the PTX lowered to 6.3, so that older drivers take it.
#include <cstdint>

extern "C" __global__ void darkness(const uint8_t *image, uint8_t *scores, uint8_t *peak, int h, int w, int c, int k) {
    int columns = (w + 3) / 4, rows = (h + 3) / 4, cell = blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= rows * columns) return;
    int top = cell / columns * 4, left = cell % columns * 4, sum = 0, pixels = 0;
    for (int y = top; y < top + 4 && y < h; y++)
        for (int x = left; x < left + 4 && x < w; x++)
            for (int i = 0; i < c; i++, pixels++) sum += image[(y * w + x) * c + i];
    for (int n = 0; n < k; n++) {
        float dark = 255 - 64 * n - (float)sum / pixels;
        scores[n * rows * columns + cell] = dark < 0 ? 0 : (uint8_t)__float2int_rn(dark);
    }
}

extern "C" __global__ void peaks(const uint8_t *image, uint8_t *scores, uint8_t *peak, int h, int w, int c, int k) {
    __shared__ int best;
    int cells = ((h + 3) / 4) * ((w + 3) / 4);
    if (threadIdx.x == 0) best = 0;
    __syncthreads();
    int own = 0;
    for (int i = threadIdx.x; i < cells; i += blockDim.x) own = max(own, (int)scores[blockIdx.x * cells + i]);
    atomicMax(&best, own);
    __syncthreads();
    if (threadIdx.x == 0) peak[blockIdx.x] = (uint8_t)best;
}
