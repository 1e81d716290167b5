// Sets of bytes, and partitions of the 256 bytes into classes that an expression cannot tell apart.
#pragma once

#include <array>
#include <cstring>
#include <unordered_map>

#include "limits.h"

namespace ramify {

struct ByteSet {
    std::array<u64, 4> bits{};
    bool has(u8 byte) const { return bits[byte >> 6] >> (byte & 63) & 1; }
    void add(u8 byte) { bits[byte >> 6] |= u64(1) << (byte & 63); }
    bool empty() const { return !(bits[0] | bits[1] | bits[2] | bits[3]); }
    // Its one byte; -1 when it has another number of them.
    int only() const {
        int found = -1;
        for (int word = 0; word < 4; word++)
            if (u64 left = bits[size_t(word)]) {
                if (found >= 0 || left & (left - 1)) return -1;
                found = word * 64 + __builtin_ctzll(left);
            }
        return found;
    }
    bool full() const { return (bits[0] & bits[1] & bits[2] & bits[3]) == ~u64(0); }
    bool operator==(const ByteSet& other) const { return bits == other.bits; }
    u64 hash() const {
        u64 hash = 7;
        for (u64 word : bits) hash = mixed(hash, word);
        return hash;
    }
};

struct Partition {
    u8 of[256];     // byte -> class
    u8 sample[256];  // class -> one of its bytes
    u32 classes;
};

class Partitions {
  public:
    Partitions() {
        u8 one[256] = {};
        interned(one);
        for (int byte = 0; byte < 256; byte++) one[byte] = u8(byte);
        identity_ = interned(one);
    }
    const Partition& operator[](u32 id) const { return all_[id]; }
    u32 whole() const { return 0; }            // one class: every byte alike
    u32 identity() const { return identity_; }  // every byte a class of its own

    u32 split(const ByteSet& set) {
        u8 of[256];
        for (int byte = 0; byte < 256; byte++) of[byte] = set.has(u8(byte));
        return interned(of);
    }

    u32 meet(u32 left, u32 right) {
        if (left == right || right == whole()) return left;
        if (left == whole()) return right;
        if (left > right) std::swap(left, right);
        u64 key = u64(left) << 32 | right;
        auto known = meets_.find(key);
        if (known != meets_.end()) return known->second;
        // classes of the meet: pairs of classes, numbered as they turn up
        std::unordered_map<u32, u8> number;
        u8 of[256];
        const Partition &a = all_[left], &b = all_[right];
        u32 direct[64 * 16];
        bool small = a.classes <= 64 && b.classes <= 16;
        if (small) std::fill(direct, direct + 1024, NONE);
        u32 count = 0;
        for (int byte = 0; byte < 256; byte++) {
            u32 pair = a.of[byte] * 256u + b.of[byte];
            if (small) {
                u32& slot = direct[a.of[byte] * 16u + b.of[byte]];
                if (slot == NONE) slot = count++;
                of[byte] = u8(slot);
            } else {
                auto added = number.emplace(pair, u8(count));
                if (added.second) count++;
                of[byte] = added.first->second;
            }
        }
        u32 result = interned(of);
        meets_[key] = result;
        return result;
    }
    size_t bytes() const { return all_.size() * sizeof(Partition) + meets_.size() * 48; }

  private:
    u32 interned(const u8* classes) {
        Partition fresh;
        u32 number[256];
        std::fill(number, number + 256, NONE);
        fresh.classes = 0;
        u64 hash = 3;
        for (int byte = 0; byte < 256; byte++) {
            u32& slot = number[classes[byte]];
            if (slot == NONE) {
                fresh.sample[fresh.classes] = u8(byte);
                slot = fresh.classes++;
            }
            fresh.of[byte] = u8(slot);
        }
        for (int word = 0; word < 32; word++) {
            u64 eight;
            std::memcpy(&eight, fresh.of + 8 * word, 8);
            hash = mixed(hash, eight);
        }
        u32 found = index_.find(hash, [&](u32 id) { return !std::memcmp(all_[id].of, fresh.of, 256); });
        if (found != NONE) return found;
        all_.push_back(fresh);
        index_.insert(hash, u32(all_.size() - 1));
        return u32(all_.size() - 1);
    }
    std::vector<Partition> all_;
    HashIndex index_;
    std::unordered_map<u64, u32> meets_;
    u32 identity_ = 0;
};

}  // namespace ramify
