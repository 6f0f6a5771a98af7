// What the tail reads and writes: the one argument of the kernels and of their twin. native.py mirrors it.
#pragma once

struct Tail {
    const void* u;        // (faces, strata, channels, height, width) residual stream, half or float, NCHW, dense
    const void* h;        // the same shape, behind the last ReLU; null where a ReLU stands before the pool
    const float* weight;  // (expressions, channels, 10): of the sum of u, then of the nine window sums; (.., 1) without h
    const float* bias;    // (expressions)

    float* partials;      // (faces, chunks of channels, strata, expressions), for the kernels' own use
    unsigned* done;       // (faces), zero before the first launch; every launch leaves it zero

    float* stratum_logits;  // (faces, strata, expressions)
    float* logits;          // (faces, expressions), their mean over the strata
    float* probabilities;   // (faces, expressions)

    int faces, strata, channels, height, width, expressions;
    float temperature;    // divides the logits of the probabilities only
    int mean_of_softmax;  // 0: softmax of the mean logits, 1: mean of the strata's softmaxes
};

constexpr int LANES = 8;  // that share a channel, each taking whole rows of its map
constexpr int THREADS = 128;
constexpr int CHANNELS = THREADS / LANES;  // of a block
constexpr int WINDOWED = 10;               // sums of a channel: u over the map and h over the nine windows
constexpr int POOLED = 1;                  // u over the map
