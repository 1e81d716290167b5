// The automaton of X beside P x* R, which counts the x: in two parts, so that counts are no part of its states.
#pragma once

#include "staying.h"

namespace ramify {

constexpr size_t REST_STATES = 30'000;  // looked at for the shortest texts
constexpr size_t NEAR_STATES = 200;     // the same where they are near

class CountedAutomaton {
  public:
    static constexpr u32 TOO_MANY = NONE - 1;

    struct State {
        u32 others, place;  // place: within x or R; EMPTY between two x
        u32 left;           // x that must come yet
        bool behind;        // in R
        bool operator==(const State& o) const {
            return others == o.others && place == o.place && left == o.left && behind == o.behind;
        }
    };

    CountedAutomaton(Lexemes& lexemes, u32 inner, u32 after) : lexemes_(lexemes), inner_(inner), after_(after) {
        states_.push_back({{NOTHING, NOTHING, 0, false}, 0, 0, false, NONE, 0});
    }

    u32 at(const State& state) {
        u64 hash = mixed(mixed(mixed(mixed(31, state.others), state.place), state.left), state.behind);
        u32 found = index_.find(hash, [&](u32 id) { return states_[id].is == state; });
        if (found != NONE) return found;
        const Expressions& nodes = lexemes_.nodes;
        u32 partition = nodes[state.place].partition;
        Partitions& partitions = lexemes_.nodes.partitions;
        if (!state.behind && state.place == EMPTY)
            partition = partitions.meet(nodes[inner_].partition, nodes[after_].partition);
        partition = partitions.meet(partition, nodes[state.others].partition);
        bool ends = !state.left && lexemes_.nullable(state.others) &&
                    (state.behind ? lexemes_.nullable(state.place)
                                  : state.place == EMPTY && lexemes_.nullable(after_));
        u32 row = u32(rows_.size());
        rows_.resize(rows_.size() + partitions[partition].classes, NONE);
        states_.push_back({state, partition, row, ends, UNASKED, UNASKED});
        index_.insert(hash, u32(states_.size() - 1));
        return u32(states_.size() - 1);
    }
    // Twice the state after one more byte, and one more where an x began; 0 when nothing goes on like that.
    u32 step(u32 id, u8 byte) {
        const Known& known = states_[id];
        u32 slot = known.row + lexemes_.nodes.partitions[known.partition].of[byte];
        if (rows_[slot] == NONE) {
            u32 next = explored(known.is, byte);
            rows_[slot] = next;
        }
        return rows_[slot];
    }
    size_t bytes() const { return states_.size() * (sizeof(Known) + 24) + rows_.size() * 4; }
    // The kinds of bytes and characters that are each one more x and nothing else; not where a text may end.
    u32 round(u32 id) {
        if (states_[id].round != UNASKED) return u32(states_[id].round);
        u32 away = NOT_ASCII;
        const State is = states_[id].is;
        if (is.behind || is.place != EMPTY || is.left || states_[id].ends) return u32(states_[id].round = 0);
        if (is.others == ANYTHING && staying_.has_characters(inner_)) away = NO_CHARACTER;
        for (u32 byte = 0; byte < 128; byte++)
            if (step(id, u8(byte)) != id * 2 + 1) away |= ascii_kinds()[byte];
        return u32(states_[id].round = u32(~away));
    }
    bool behind(u32 id) const { return states_[id].is.behind; }
    bool may_end(u32 id) const { return states_[id].ends; }

    // How many x the shortest text takes from here on; NONE when there is no text, TOO_MANY when that is not known.
    u32 shortest(u32 id) {
        if (states_[id].rest == UNASKED && !near(id)) search(id);
        return states_[id].rest;
    }

  private:
    static constexpr u32 UNASKED = NONE - 2;  // no set of kinds: it would have all but two
    struct Known {
        State is;
        u32 partition, row;
        bool ends;
        u32 rest;
        u64 round;  // UNASKED, or kinds
    };

    u32 explored(State state, u8 byte) {
        u32 began = 0;
        if (state.others != ANYTHING && !(state.others = lexemes_.step(state.others, byte))) return 0;
        if (state.behind || state.place != EMPTY) {
            state.place = lexemes_.step(state.place, byte);
        } else if (u32 next = lexemes_.step(inner_, byte)) {
            state.place = next;
            began = 1;
            if (state.left) state.left--;
        } else {
            if (state.left) return 0;
            state.place = lexemes_.step(after_, byte);
            state.behind = true;
        }
        return state.place == NOTHING ? 0 : at(state) * 2 + began;
    }

    // Whether a few states suffice to find the shortest text from one on, which is then known.
    bool near(u32 start) {
        std::vector<u32> now{start}, later, done;
        u32 best = NONE;
        for (u32 cost = 0; !now.empty() && best > cost; cost++) {
            while (!now.empty() && best > cost) {
                u32 here = now.back(), known = states_[here].rest;
                now.pop_back();
                if (std::find(done.begin(), done.end(), here) != done.end()) continue;
                done.push_back(here);
                if (states_[here].ends)
                    best = cost;
                else if (known != UNASKED && known != TOO_MANY)
                    best = known == NONE ? best : std::min(best, cost + known);
                else if (done.size() + now.size() + later.size() > NEAR_STATES)
                    return false;
                else
                    onward(here, now, later);
            }
            now.swap(later);
            later.clear();
        }
        states_[start].rest = best;
        return true;
    }

    // The states after one more byte: without another x, and with one.
    void onward(u32 here, std::vector<u32>& without, std::vector<u32>& with) {
        u32 partition = states_[here].partition, classes = lexemes_.nodes.partitions[partition].classes;
        for (u32 group = 0; group < classes; group++) {
            u32 next = step(here, lexemes_.nodes.partitions[partition].sample[group]);
            if (next) (next & 1 ? with : without).push_back(next >> 1);
        }
    }

    // Everything that can be reached and is not known, then from the ends back, nearest first.
    void search(u32 start) {
        std::vector<u32> queue{start};
        std::unordered_map<u32, u32> number{{start, 0}};
        std::vector<std::vector<std::pair<u32, u32>>> back(1);  // where from, at what cost
        std::vector<u32> cost(1, NONE);
        std::vector<std::vector<u32>> reached(1);  // by cost
        auto settle = [&](u32 at, u32 value) {
            if (value >= cost[at]) return;
            cost[at] = value;
            if (value >= reached.size()) reached.resize(value + 1);
            reached[value].push_back(at);
        };
        for (u32 at = 0; at < queue.size(); at++) {
            if (queue.size() > REST_STATES) {
                states_[start].rest = TOO_MANY;
                return;
            }
            u32 here = queue[at];
            if (states_[here].ends) settle(at, 0);
            u32 partition = states_[here].partition, classes = lexemes_.nodes.partitions[partition].classes;
            for (u32 group = 0; group < classes; group++) {
                u32 next = step(here, lexemes_.nodes.partitions[partition].sample[group]);
                if (!next) continue;
                u32 known = states_[next >> 1].rest;
                if (known != UNASKED && known != TOO_MANY) {
                    if (known != NONE) settle(at, (next & 1) + known);
                    continue;
                }
                auto added = number.try_emplace(next >> 1, u32(queue.size()));
                if (added.second) {
                    queue.push_back(next >> 1);
                    back.emplace_back();
                    cost.push_back(NONE);
                }
                back[added.first->second].push_back({at, next & 1});
            }
        }
        for (u32 value = 0; value < reached.size(); value++)
            for (size_t i = 0; i < reached[value].size(); i++) {
                u32 at = reached[value][i];
                if (cost[at] != value) continue;
                for (auto& from : back[at]) settle(from.first, value + from.second);
            }
        for (u32 at = 0; at < queue.size(); at++) states_[queue[at]].rest = cost[at];
        lexemes_.budget->spend(queue.size());
    }

    Lexemes& lexemes_;
    Staying staying_{lexemes_};
    u32 inner_, after_;
    std::vector<Known> states_;
    HashIndex index_;
    std::vector<u32> rows_;
};

}  // namespace ramify
