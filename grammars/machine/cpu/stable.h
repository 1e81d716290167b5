// A sequence that grows without moving what is in it: references stay good, and no growth is a stall.
#pragma once

#include <memory>
#include <vector>

#include "limits.h"

namespace ramify {

template <class T>
class Stable {
  public:
    T& operator[](size_t at) { return blocks_[at >> BITS][at & (SIZE - 1)]; }
    const T& operator[](size_t at) const { return blocks_[at >> BITS][at & (SIZE - 1)]; }
    size_t size() const { return size_; }
    T& push_back(T one) {
        if (size_ == blocks_.size() << BITS) blocks_.emplace_back(new T[SIZE]);
        return (*this)[size_++] = std::move(one);
    }

  private:
    static constexpr size_t BITS = 6, SIZE = size_t(1) << BITS;
    std::vector<std::unique_ptr<T[]>> blocks_;
    size_t size_ = 0;
};

}  // namespace ramify
