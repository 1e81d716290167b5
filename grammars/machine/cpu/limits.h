// What may go wrong inside the core, as exceptions that core.cpp turns into codes, and the work one call may do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ramify {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;

constexpr u32 NONE = 0xffffffffu;

enum Code : int { REFUSED = 0, DONE = 1, NEED = -1, TOO_LARGE = -2, NO_MEMORY = -3, BROKEN = -4 };

struct Needed {  // definitions that Python has to make first
    std::vector<u32> symbols;
};
struct TooLarge {
    const char* what;
};
struct Broken {  // the caller handed in something malformed
    const char* what;
};

// Counts the work of one call, so that no input can make it run for ever.
struct Budget {
    u64 work = 0;
    u64 limit = 30'000'000;
    void begin() { work = 0; }
    void spend(u64 amount) {
        work += amount;
        if (work > limit) throw TooLarge{"it takes more work for one token than is allowed"};
    }
};

inline u64 mixed(u64 hash, u64 value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15ull;
    return hash ^ (hash >> 29);
}

// An open-addressing index from hashes to ids; the caller keeps the things and says what is equal.
class HashIndex {
  public:
    template <class Equal>
    u32 find(u64 hash, Equal equal) const {
        if (slots_.empty()) return NONE;
        size_t mask = slots_.size() - 1;
        for (size_t at = hash & mask; slots_[at]; at = (at + 1) & mask)
            if ((slots_[at] >> 32) == (hash >> 32) && equal(u32(slots_[at]) - 1)) return u32(slots_[at]) - 1;
        return NONE;
    }
    void insert(u64 hash, u32 id) {
        if (2 * (used_ + 1) > slots_.size()) grow();
        place(hash, id);
        used_++;
    }
    void reserve(size_t slots) {  // a power of two
        slots_.resize(slots);
        low_.resize(slots);
    }
    void clear() {
        slots_.clear();
        low_.clear();
        used_ = 0;
    }
    size_t bytes() const { return slots_.size() * 12; }

  private:
    void place(u64 hash, u32 id) {
        size_t mask = slots_.size() - 1, at = hash & mask;
        while (slots_[at]) at = (at + 1) & mask;
        slots_[at] = (hash & 0xffffffff00000000ull) | (id + 1);
        low_[at] = u32(hash);
    }
    void grow() {
        std::vector<u64> slots(slots_.empty() ? 64 : slots_.size() * 2);
        std::vector<u32> low(slots.size());
        slots.swap(slots_);
        low.swap(low_);
        for (size_t i = 0; i < slots.size(); i++)
            if (slots[i]) place((slots[i] & 0xffffffff00000000ull) | low[i], u32(slots[i]) - 1);
    }
    std::vector<u64> slots_;
    std::vector<u32> low_;
    size_t used_ = 0;
};

}  // namespace ramify
