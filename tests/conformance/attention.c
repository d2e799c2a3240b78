/* Attention in C, forward and backward, in float: softmax(s Q K^T) V with a mask and causal order.

   attention FOLDER N_Q N_X D D_V CAUSAL OFFSET MASK
   reads Q.bin, K.bin, V.bin, cotangent.bin and, if MASK is 1, mask.bin, and writes answer.NAME.bin for output, Q, K, V.
   FAULT (a macro) plants a fault: 1 no scale, 2 no row sum in the backward, 3 the causal order one position too far. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef FAULT
#define FAULT 0
#endif

static const char *folder;

static void *numbers(const char *name, size_t count, size_t size) {
    char path[4096];
    void *data = calloc(count + 1, size);
    if (name) {
        snprintf(path, sizeof path, "%s/%s.bin", folder, name);
        FILE *file = fopen(path, "rb");
        if (!file || fread(data, size, count, file) != count) exit(2);
        fclose(file);
    }
    return data;
}

static void answer(const char *name, const float *data, size_t count) {
    char path[4096];
    snprintf(path, sizeof path, "%s/answer.%s.bin", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, sizeof *data, count, file) != count || fclose(file)) exit(3);
}

int main(int argc, char **argv) {
    if (argc != 9) return 1;
    folder = argv[1];
    int N = atoi(argv[2]), M = atoi(argv[3]), D = atoi(argv[4]), W = atoi(argv[5]);
    int causal = atoi(argv[6]), offset = atoi(argv[7]) + (FAULT == 3), masked = atoi(argv[8]);
    float *Q = numbers("Q", N * D, 4), *K = numbers("K", M * D, 4), *V = numbers("V", M * W, 4);
    float *dY = numbers("cotangent", N * W, 4), *Y = numbers(0, N * W, 4);
    float *dQ = numbers(0, N * D, 4), *dK = numbers(0, M * D, 4), *dV = numbers(0, M * W, 4);
    float *a = numbers(0, M, 4), *da = numbers(0, M, 4), scale = FAULT == 1 ? 1.0f : 1.0f / sqrtf(D);
    unsigned char *mask = masked ? numbers("mask", N * M, 1) : 0;
    for (int i = 0; i < N; i++) {
        float top = -INFINITY, total = 0, delta = 0;
        for (int j = 0; j < M; j++) {
            a[j] = 0;
            for (int d = 0; d < D; d++) a[j] += Q[i * D + d] * K[j * D + d];
            a[j] *= scale;
            if ((causal && j > i + offset) || (mask && !mask[i * M + j])) a[j] = -INFINITY;
            if (a[j] > top) top = a[j];
        }
        for (int j = 0; j < M; j++) total += a[j] = a[j] == -INFINITY ? 0 : expf(a[j] - top);
        for (int j = 0; j < M; j++) {
            a[j] = total > 0 ? a[j] / total : 0;
            da[j] = 0;
            for (int d = 0; d < W; d++) {
                Y[i * W + d] += a[j] * V[j * W + d];
                dV[j * W + d] += a[j] * dY[i * W + d];
                da[j] += dY[i * W + d] * V[j * W + d];
            }
            delta += a[j] * da[j];
        }
        for (int j = 0; j < M; j++) {
            float dS = scale * a[j] * (da[j] - (FAULT == 2 ? 0 : delta));
            for (int d = 0; d < D; d++) {
                dQ[i * D + d] += dS * K[j * D + d];
                dK[j * D + d] += dS * Q[i * D + d];
            }
        }
    }
    answer("output", Y, N * W);
    answer("Q", dQ, N * D);
    answer("K", dK, M * D);
    answer("V", dV, M * W);
    return 0;
}
