// Lexemes with counts: one walk of the tokens for all counts, where it is plain which repeat one is in.
//
//     P x{l,m} R            each token keeps how many x it takes; the tokens of a state are a slice of them, by l and m
//     X and P x{l,m} R      as strings with a pattern and a length: it keeps how many x the shortest text with it takes
#pragma once

#include <array>
#include <unordered_map>

#include "counted_automaton.h"
#include "crossing.h"

namespace ramify {

constexpr u32 MOST_LEAST = 64;  // the largest l beside an X
constexpr u32 FEW_REPEATS = 6;

struct Counted {
    u32 others;  // X; ANYTHING when there is none
    u32 before, inner, after, least, most;
};

class Counts {
  public:
    Counts(Lexemes& lexemes, const Trie& trie) : lexemes_(lexemes), trie_(trie) {}

    // Whether a state has this form, and its parts.
    bool recognized(u32 state, Counted& found) {
        Expressions& nodes = lexemes_.nodes;
        found.others = ANYTHING;
        if (!nodes[state].hard) return chain(state, found);
        // (X and Y) T is XT and YT where all of T's strings are as long
        u32 tail = EMPTY;
        if (nodes[state].kind == CAT && nodes[nodes[state].b].shortest == nodes[nodes[state].b].longest) {
            tail = nodes[state].b;
            state = nodes[state].a;
        }
        if (nodes[state].kind != AND) return false;
        std::vector<u32> parts(nodes.parts(state), nodes.parts(state) + nodes[state].b);
        for (u32 part : parts) {
            if (nodes[part].hard || !chain(nodes.concat(part, tail), found) || found.least > MOST_LEAST) continue;
            std::vector<u32> rest;
            for (u32 other : parts)
                if (other != part) rest.push_back(nodes.concat(other, tail));
            found.others = nodes.both(rest);
            return true;
        }
        return false;
    }

    // Whether its states are few or much alike, and walks of their own as short.
    bool easy(const Counted& form) const {
        bool long_walk = form.before != EMPTY || lexemes_.nullable(form.after);
        return form.others == ANYTHING && (form.most == ENDLESS || (long_walk && form.most <= FEW_REPEATS));
    }

    // The tokens of the form, good for every `most` (and every `least`, without others); nullptr where that is too much.
    Shape* shape(const Counted& form) {
        bool alone = form.others == ANYTHING;
        std::array<u32, 5> key{form.others, form.before, form.inner, form.after, alone ? 0 : form.least};
        u64 hash = 29;
        for (u32 number : key) hash = mixed(hash, number);
        auto& bucket = shapes_[hash];
        for (auto& one : bucket)
            if (one.first == key) return one.second.get();
        auto made = std::make_unique<Shape>();
        if (!walk(form, *made)) made.reset();
        bytes_ += 300;
        bucket.push_back({key, std::move(made)});
        return bucket.back().second.get();
    }
    size_t bytes() const { return bytes_; }
    void clear() {
        shapes_.clear();
        automata_.clear();
        bytes_ = 0;
    }

  private:
    bool chain(u32 state, Counted& found) {
        Expressions& nodes = lexemes_.nodes;
        std::vector<u32> heads;
        for (int parts = 0; parts < 8; parts++) {
            u32 head = nodes[state].kind == CAT ? nodes[state].a : state;
            if (nodes[head].kind == REP && (nodes[head].least || nodes[head].most != ENDLESS)) {
                found.inner = nodes[head].a;
                found.least = nodes[head].least;
                found.most = nodes[head].most;
                found.after = nodes[state].kind == CAT ? nodes[state].b : EMPTY;
                found.before = EMPTY;
                for (size_t i = heads.size(); i-- > 0;) found.before = nodes.concat(heads[i], found.before);
                if (found.before != EMPTY && !lexemes_.prefix_free(found.before)) return false;
                if (!lexemes_.prefix_free(found.inner)) return false;
                ByteSet inner = lexemes_.onward(found.inner), next = lexemes_.onward(found.after);
                for (int word = 0; word < 4; word++)
                    if (inner.bits[word] & next.bits[word]) return false;
                return true;
            }
            if (nodes[state].kind != CAT) return false;
            heads.push_back(head);
            state = nodes[state].b;
        }
        return false;
    }

    bool walk(const Counted& form, Shape& shape) {
        bool alone = form.others == ANYTHING;
        CountedAutomaton& automaton =
            automata_.try_emplace(u64(form.inner) << 32 | form.after, lexemes_, form.inner, form.after).first->second;
        size_t before = automaton.bytes();
        std::vector<std::pair<u32, u32>> staying, gone;  // count, token
        Crossing& crossing = shape.crossing;
        crossing.nodes.push_back({0, 0, 0, 0, 0, 0, false});
        places_.resize(trie_.longest + 2);
        places_[0] = {automaton.at({form.others, form.before, alone ? 0 : form.least, false}), 0};
        u32 size = u32(trie_.nodes.size()), steps = 0;
        for (u32 at = 1; at < size; steps++) {
            const TrieNode& node = trie_.nodes[at];
            Place place = places_[node.depth - 1];
            u32 next = automaton.step(place.state, node.byte);
            place = {next >> 1, place.count + (next & 1)};
            u32 rest = alone || !place.state ? 0 : automaton.shortest(place.state);
            if (rest == CountedAutomaton::TOO_MANY) return false;
            if (!place.state || rest == NONE) {
                at = node.end;
                continue;
            }
            places_[node.depth] = place;
            bool behind = automaton.behind(place.state);
            for (u32 token = node.token; token != NONE; token = trie_.same[token])
                (alone && behind ? gone : staying).push_back({place.count + rest, token});
            if (node.below && !(node.below & ~automaton.round(place.state))) {  // each character is one x more
                u32 whole = place.count + rest - trie_.characters(trie_.some_token(at), node.depth);
                for (u32 i = trie_.before[at + 1]; i < trie_.before[node.end]; i++)
                    for (u32 token = trie_.tokens[i].token; token != NONE; token = trie_.same[token])
                        staying.push_back({whole + trie_.tokens[i].characters, token});
                at = node.end;
                continue;
            }
            if (node.end > at + 1 && automaton.may_end(place.state)) crossing.remains.push_back({at, place.count});
            at++;
        }
        lexemes_.budget->spend(steps / 8);
        auto large = std::stable_partition(crossing.remains.begin(), crossing.remains.end(), [&](const Remains& one) {
            return trie_.nodes[one.node].end - one.node <= LARGE;
        });
        crossing.large.assign(large, crossing.remains.end());
        crossing.remains.erase(large, crossing.remains.end());
        crossing.nodes[0].to = u32(crossing.remains.size());
        shape.staying.sort(staying);
        shape.gone.sort(gone);
        bytes_ += (staying.size() + gone.size() + 2 * crossing.remains.size()) * 4 + automaton.bytes() - before;
        return true;
    }

    struct Place {
        u32 state, count;
    };
    Lexemes& lexemes_;
    const Trie& trie_;
    std::unordered_map<u64, std::vector<std::pair<std::array<u32, 5>, std::unique_ptr<Shape>>>> shapes_;
    std::unordered_map<u64, CountedAutomaton> automata_;
    std::vector<Place> places_;
    size_t bytes_ = 0;
};

}  // namespace ramify
