// A JSON array while it is written: which elements may come next so that it can still be completed.
#pragma once

#include "objects.h"

namespace ramify {

enum ArrayPhase : u32 { FIRST_ELEMENT = 1, ELEMENT, AFTER_ELEMENT, ARRAY_DONE };

// As numbers: phase, used, index, total, then the counts of the kinds.
struct ArrayState {
    u32 phase = FIRST_ELEMENT, used = 0, index = 0, total = 0;
    std::vector<u32> kinds;

    std::vector<u32> numbers() const {
        std::vector<u32> all{phase, used, index, total};
        all.insert(all.end(), kinds.begin(), kinds.end());
        return all;
    }
    bool operator<(const ArrayState& other) const { return numbers() < other.numbers(); }
};

// The automaton of one Array definition: arrays.py of the Python machine, rule for rule.
class ArrayFrame {
  public:
    ArrayFrame(const Definition& definition, const Ask& possible) : d_(definition), possible_(possible) {}

    bool completable() { return feasible(start()); }

    Ways ways(const std::vector<u32>& numbers) {
        if (numbers.empty()) {
            if (!completable()) return {};
            return {{{d_.opening, start().numbers(), 0, false, false}}, false};
        }
        ArrayState state{numbers[0], numbers[1], numbers[2], numbers[3], {numbers.begin() + 4, numbers.end()}};
        Ways found;
        if (state.phase == ARRAY_DONE) {
            found.complete = true;
            return found;
        }
        if (state.phase != ELEMENT && closable(state)) {
            ArrayState done;
            done.phase = ARRAY_DONE;
            found.ways.push_back({d_.closing, done.numbers(), 0, false, false});
        }
        bool after = state.phase == AFTER_ELEMENT;
        ArrayState next = state;
        next.phase = AFTER_ELEMENT;
        std::vector<Way> offered;
        for (const Place& place : places(state.index)) {
            ArrayState taken = next;
            if (!with(taken, place) || !possible_(place.value) || !feasible(taken)) continue;
            offered.push_back({place.value, taken.numbers(), state.used, d_.unique, false});
        }
        if (!after)
            found.ways.insert(found.ways.end(), offered.begin(), offered.end());
        else if (!offered.empty()) {
            state.phase = ELEMENT;
            found.ways.push_back({d_.comma, state.numbers(), 0, false, false});
        }
        return found;
    }

  private:
    ArrayState start() const {
        ArrayState state;
        state.kinds.assign(d_.kinds.size(), 0);
        return state;
    }
    const std::vector<Place>& places(u32 index) const { return index < d_.prefix.size() ? d_.prefix[index] : d_.rest; }

    // One more element; false when that is one too many.
    bool with(ArrayState& state, const Place& place) const {
        if (d_.most != UNBOUNDED && state.total >= d_.most) return false;
        if (place.kind != NONE) {
            const Kind_& kind = d_.kinds[place.kind];
            u32& count = state.kinds[place.kind];
            if (kind.most != UNBOUNDED && count >= kind.most) return false;
            count = kind.most == UNBOUNDED ? std::min(count + 1, kind.least) : count + 1;
        }
        state.total = d_.most == UNBOUNDED ? std::min(state.total + 1, d_.least) : state.total + 1;
        state.index = std::min(state.index + 1, u32(d_.prefix.size()));
        return true;
    }
    bool closable(const ArrayState& state) const {
        for (u32 i = 0; i < d_.kinds.size(); i++)
            if (state.kinds[i] < d_.kinds[i].least) return false;
        return state.total >= d_.least;
    }

    // Through the prefix, all counts that can be reached; in the rest, arithmetic.
    bool feasible(ArrayState from) {
        from.used = 0;
        from.phase = AFTER_ELEMENT;
        std::set<ArrayState> reached{from};
        for (u32 index = from.index;; index++) {
            for (const ArrayState& one : reached)
                if (closable(one)) return true;
            if (index >= d_.prefix.size()) {
                for (const ArrayState& one : reached)
                    if (rest_suffices(one)) return true;
                return false;
            }
            std::set<ArrayState> following;
            for (const Place& place : d_.prefix[index]) {
                if (!possible_(place.value)) continue;
                for (ArrayState one : reached)
                    if (with(one, place)) following.insert(one);
            }
            if (following.size() > 10'000)
                throw TooLarge{"an array with too many kinds of elements to count; use fewer `contains`"};
            reached.swap(following);
            if (reached.empty()) return false;
        }
    }

    bool rest_suffices(const ArrayState& state) {
        std::vector<bool> offered(d_.kinds.size());
        bool plain = false;
        for (const Place& place : d_.rest) {
            if (!possible_(place.value)) continue;
            if (place.kind == NONE)
                plain = true;
            else
                offered[place.kind] = true;
        }
        u64 must = 0, room = 0;
        for (u32 i = 0; i < d_.kinds.size(); i++) {
            const Kind_& kind = d_.kinds[i];
            u64 lacking = kind.least > state.kinds[i] ? kind.least - state.kinds[i] : 0;
            must += lacking;
            if (lacking && !offered[i]) return false;
            if (kind.most != UNBOUNDED && state.kinds[i] + lacking > kind.most) return false;
            if (offered[i]) room += kind.most == UNBOUNDED ? d_.least : kind.most - state.kinds[i] - lacking;
        }
        u64 wanted = std::max<u64>(d_.least > state.total ? d_.least - state.total : 0, must);
        if (d_.most != UNBOUNDED && state.total + wanted > d_.most) return false;
        return wanted == must || plain || wanted - must <= room;
    }

    const Definition& d_;
    const Ask& possible_;
};

}  // namespace ramify
