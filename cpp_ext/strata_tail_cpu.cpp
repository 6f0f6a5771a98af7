// The tail in plain loops, for machines without a GPU. The kernels are compared with it.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "half.h"
#include "strata_tail.h"

namespace {

// The sum over rows [top, bottom) and columns [left, right) of one map.
template <typename Number>
double sum(const Number* map, int width, int top, int bottom, int left, int right) {
    double total = 0;
    for (int y = top; y < bottom; ++y)
        for (int x = left; x < right; ++x) total += map[y * width + x];
    return total;
}

struct Half {
    std::uint16_t bits;
    operator float() const { return half_to_float(bits); }
};

// One channel's part of the logits of one stratum.
template <typename Number>
void add_channel(const Tail& tail, const Number* u, const Number* h, int channel, std::vector<double>& logits) {
    const int height = tail.height, width = tail.width;
    std::vector<double> sums = {sum(u, width, 0, height, 0, width)};
    if (h)  // a tap above or left of the centre never meets the last row or column; one below or right, not the first
        for (int dy = -1; dy <= 1; ++dy)
            for (int dx = -1; dx <= 1; ++dx)
                sums.push_back(sum(h, width, dy == 1, height - (dy == -1), dx == 1, width - (dx == -1)));
    for (int e = 0; e < tail.expressions; ++e) {
        const float* weight = tail.weight + (std::size_t(e) * tail.channels + channel) * sums.size();
        for (std::size_t k = 0; k < sums.size(); ++k) logits[e] += weight[k] * sums[k];
    }
}

// Adds share * softmax(logits / temperature) to the probabilities.
void add_softmax(const std::vector<double>& logits, double temperature, double share,
                 std::vector<double>& probabilities) {
    const double largest = *std::max_element(logits.begin(), logits.end());
    double total = 0;
    for (double logit : logits) total += std::exp((logit - largest) / temperature);
    for (std::size_t e = 0; e < logits.size(); ++e)
        probabilities[e] += share * std::exp((logits[e] - largest) / temperature) / total;
}

template <typename Number>
void run(const Tail& tail) {
    const std::size_t expressions = tail.expressions, pixels = std::size_t(tail.height) * tail.width;
    const Number *u = static_cast<const Number*>(tail.u), *h = static_cast<const Number*>(tail.h);
    const double share = 1.0 / tail.strata;
    for (int face = 0; face < tail.faces; ++face) {
        std::vector<double> mean(expressions), probabilities(expressions);
        for (int n = 0; n < tail.strata; ++n) {
            const std::size_t stratum = std::size_t(face) * tail.strata + n;
            std::vector<double> logits(tail.bias, tail.bias + expressions);
            for (int c = 0; c < tail.channels; ++c) {
                const std::size_t map = (stratum * tail.channels + c) * pixels;
                add_channel(tail, u + map, h ? h + map : nullptr, c, logits);
            }
            for (std::size_t e = 0; e < expressions; ++e) mean[e] += share * logits[e];
            if (tail.mean_of_softmax) add_softmax(logits, tail.temperature, share, probabilities);
            std::copy(logits.begin(), logits.end(), tail.stratum_logits + stratum * expressions);
        }
        if (!tail.mean_of_softmax) add_softmax(mean, tail.temperature, 1, probabilities);
        std::copy(mean.begin(), mean.end(), tail.logits + face * expressions);
        std::copy(probabilities.begin(), probabilities.end(), tail.probabilities + face * expressions);
    }
}

}  // namespace

// Takes the kernels' argument. The workspace, `partials` and `done`, is not used and may be null.
extern "C" void strata_tail_cpu(const Tail* tail, int half) { half ? run<Half>(*tail) : run<float>(*tail); }
