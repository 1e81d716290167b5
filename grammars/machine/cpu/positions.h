// The positions of one program, each kept once, with the steps on from it that lead to a complete text.
#pragma once

#include <deque>
#include <map>

#include "arrays.h"
#include "values.h"

namespace ramify {

constexpr u32 MOST_SYMBOLS = 4'000'000;

class Program {
  public:
    explicit Program(u32 start) : start(start) {}
    const u32 start;
    const Definition& at(u32 symbol) const {
        if (symbol >= definitions_.size() || definitions_[symbol].form == Form::MISSING) throw Needed{{symbol}};
        return definitions_[symbol];
    }
    void define(u32 symbol, Definition definition) {
        if (symbol >= MOST_SYMBOLS) throw Broken{"a definition with too large a number"};
        if (definition.form == Form::OBJECT) ObjectFrame::prepare(definition);
        if (symbol >= definitions_.size()) definitions_.resize(std::max<size_t>(symbol + 1, definitions_.size() * 3 / 2));
        definitions_[symbol] = std::move(definition);
    }
    bool has(u32 symbol) const { return symbol < definitions_.size() && definitions_[symbol].form != Form::MISSING; }
    size_t bytes() const { return definitions_.size() * sizeof(Definition); }

  private:
    std::deque<Definition> definitions_;
};

// Answers one question about definitions that is answered from the same question about their parts: a least fixed
// point, looking no further than needed, without recursion.
class Decider {
  public:
    using Decide = std::function<bool(const Definition&, const Ask&)>;
    Decider(const Program& program, Decide decide) : program_(program), decide_(std::move(decide)) {}

    bool knows(u32 symbol) const { return known_.count(symbol); }
    void tell(u32 symbol) { known_[symbol] = true; }

    bool operator()(u32 root) {
        auto known = known_.find(root);
        if (known != known_.end()) return known->second;
        std::unordered_map<u32, std::vector<u32>> waiting;
        std::set<u32> seen{root};
        std::vector<u32> stack{root};
        auto yes = [&](u32 symbol) {
            auto found = known_.find(symbol);
            return found != known_.end() && found->second;
        };
        while (!stack.empty() && !yes(root)) {
            u32 symbol = stack.back();
            stack.pop_back();
            if (yes(symbol)) continue;
            Ask ask = [&](u32 part) {
                auto found = known_.find(part);
                if (found != known_.end()) return found->second;
                waiting[part].push_back(symbol);
                if (seen.insert(part).second) stack.push_back(part);
                return false;
            };
            if (decide_(program_.at(symbol), ask)) {
                known_[symbol] = true;
                auto others = waiting.find(symbol);
                if (others == waiting.end()) continue;
                stack.insert(stack.end(), others->second.begin(), others->second.end());
                waiting.erase(others);
            }
        }
        if (yes(root)) return true;
        for (u32 symbol : seen)
            if (!yes(symbol)) known_[symbol] = false;  // nothing is left that could make them true
        return false;
    }

  private:
    const Program& program_;
    Decide decide_;
    std::unordered_map<u32, bool> known_;
};

struct Step {
    u32 lexeme;  // its automaton's first state; NONE: `symbol` is a definition of another kind
    u32 symbol, target;
    bool recorded;
    bool open;  // what it may not spell depends on a text left open: see SOME_TEXT
};

struct Position {
    u32 symbol;
    std::vector<u32> state;  // empty: the first one
    bool solid = false;      // reached by what may not be the empty string
    bool opened = false, complete = false, end = false;
    std::vector<Step> steps;
};

constexpr u32 ROOT_SYMBOL = NONE - 5;

class Positions {
  public:
    Positions(Program& program, Lexemes& lexemes, Values& values, Budget& budget)
        : possible_(program, [this](const Definition& d, const Ask& ask) { return any_string(d, ask); }),
          nullable_(program, [this](const Definition& d, const Ask& ask) { return empty_string(d, ask); }),
          ask_([this](u32 symbol) { return possible_(symbol); }),
          program_(program), lexemes_(lexemes), values_(values), budget_(budget) {}

    u32 at(u32 symbol, const std::vector<u32>& state, bool solid = false) {
        u64 hash = mixed(symbol, state.size() * 2 + solid);
        for (u32 number : state) hash = mixed(hash, number);
        u32 found = index_.find(hash, [&](u32 id) {
            return all_[id].symbol == symbol && all_[id].solid == solid && all_[id].state == state;
        });
        if (found != NONE) return found;
        Position fresh;
        fresh.symbol = symbol;
        fresh.state = state;
        fresh.solid = solid;
        bytes_ += sizeof(Position) + state.size() * 4 + 32;
        all_.push_back(std::move(fresh));
        index_.insert(hash, u32(all_.size() - 1));
        return u32(all_.size() - 1);
    }
    u32 first(u32 symbol) {
        auto added = first_.try_emplace(symbol, 0);
        if (added.second) added.first->second = at(symbol, {});
        return added.first->second;
    }

    // A position with its steps found.
    const Position& opened(u32 id) {
        if (!all_[id].opened) open(id);
        return all_[id];
    }
    bool solid(u32 id) const { return all_[id].solid; }

    // Whether nothing comes after it but its definition's completion (false: not known without more work).
    bool is_end(u32 id) {
        const Position& position = all_[id];
        if (position.opened) return position.end;
        if (position.symbol == ROOT_SYMBOL || program_.at(position.symbol).form == Form::COUNTED) return opened(id).end;
        return false;
    }

    // The position behind a recorded lexeme that spelled `text`.
    u32 with_value(u32 id, u32 text) {
        std::vector<u32> state = all_[id].state;
        state[1] = values_.with(state[1], text);
        return at(all_[id].symbol, state);
    }
    size_t bytes() const { return bytes_; }
    void possible(u32 symbol) { possible_.tell(symbol); }  // it has a text, as somebody knows without its definition

  private:
    bool any_string(const Definition& d, const Ask& ask) {
        switch (d.form) {
            case Form::LEXEME: return lexemes_.alive(d.expression);
            case Form::RULES: return some_alternative(d, ask);
            case Form::COUNTED: return d.least == 0 || (ask(d.item) && joined(d, ask));
            case Form::OBJECT: return ask(d.opening) && ask(d.closing) && ObjectFrame(d, ask).completable();
            default: return ask(d.opening) && ask(d.closing) && ArrayFrame(d, ask).completable();
        }
    }
    bool empty_string(const Definition& d, const Ask& ask) {
        switch (d.form) {
            case Form::LEXEME: return lexemes_.alive(d.expression) && lexemes_.nullable(d.expression);
            case Form::RULES: return some_alternative(d, ask);
            case Form::COUNTED: return d.least == 0 || (ask(d.item) && joined(d, ask));
            default: return false;
        }
    }
    static bool some_alternative(const Definition& d, const Ask& ask) {
        for (auto& alternative : d.alternatives) {
            bool all = true;
            for (u32 symbol : alternative) all = all && ask(symbol);
            if (all) return true;
        }
        return false;
    }
    static bool joined(const Definition& d, const Ask& ask) {
        return d.separator == NONE || d.least < 2 || ask(d.separator);
    }

    void open(u32 id) {
        u32 symbol = all_[id].symbol;
        std::vector<u32> state = all_[id].state;
        budget_.spend(20);
        if (symbol == ROOT_SYMBOL) {
            Ways ways;
            ways.complete = !state.empty();
            if (state.empty()) ways.ways.push_back({program_.start, {1}, 0, false, false});
            return keep(id, symbol, ways);
        }
        const Definition& d = program_.at(symbol);
        switch (d.form) {
            case Form::RULES: return open_rules(symbol, d);
            case Form::COUNTED: return keep(id, symbol, counted(d, state));
            case Form::OBJECT: {
                ObjectFrame frame(d, ask_);
                Needed needed;  // all at once: each time that Python is asked, this begins again
                for (u32 part : frame.soon(state))
                    if (!program_.has(part) && !possible_.knows(part)) needed.symbols.push_back(part);
                if (!needed.symbols.empty()) throw needed;
                return keep(id, symbol, frame.ways(state));
            }
            case Form::ARRAY: return keep(id, symbol, ArrayFrame(d, ask_).ways(state));
            default: throw Broken{"a lexeme has no positions"};
        }
    }

    void keep(u32 id, u32 symbol, const Ways& ways) {
        std::vector<Step> steps;
        for (const Way& way : ways.ways) {
            Step step;
            if (found_step(way.symbol, way.used, step)) {
                step.target = at(symbol, way.state, way.solid);
                step.recorded = way.recorded;
                if (!used_up(step.target)) steps.push_back(step);
            }
        }
        finish(id, std::move(steps), ways.complete);
    }

    // Whether a comma would lead here and all values that may follow it have been written already.
    bool used_up(u32 id) {
        const Position& position = all_[id];
        if (position.symbol == ROOT_SYMBOL || position.state.size() < 4 || !position.state[1]) return false;
        Form form = program_.at(position.symbol).form;
        if (form != Form::OBJECT && form != Form::ARRAY) return false;
        return position.state[0] == (form == Form::OBJECT ? u32(KEY) : u32(ELEMENT)) && opened(id).steps.empty();
    }

    bool found_step(u32 symbol, u32 used, Step& step) {
        const Definition& d = program_.at(symbol);
        step = {NONE, symbol, 0, false, false};
        if (d.form != Form::LEXEME) return possible_(symbol);
        if (!lexemes_.alive(d.expression)) return false;
        step.lexeme = values_.without(d.expression, used);
        step.open = values_.open(used);
        return step.lexeme != NOTHING;
    }

    void finish(u32 id, std::vector<Step> steps, bool complete) {
        Position& position = all_[id];
        bytes_ += steps.size() * sizeof(Step);
        budget_.spend(steps.size());
        position.end = complete && steps.empty();
        position.steps = std::move(steps);
        position.complete = complete;
        position.opened = true;
    }

    Ways counted(const Definition& d, const std::vector<u32>& state) {
        u32 done = state.empty() ? 0 : state[0];
        bool between = !state.empty() && state[1];
        bool nullable = nullable_(d.item) && (d.separator == NONE || nullable_(d.separator));
        u32 least = nullable ? 0 : d.least;
        Ways ways;
        ways.complete = done >= least && (between || done == 0 || d.separator == NONE);
        if (d.most != UNBOUNDED && done >= d.most) return ways;
        if (between && d.separator != NONE) {
            ways.ways.push_back({d.separator, {done, 0}, 0, false, false});
            return ways;
        }
        u32 more = d.most != UNBOUNDED ? done + 1 : std::min(done + 1, std::max(least, 1u));
        ways.ways.push_back({d.item, {more, 1}, 0, false, nullable && d.separator == NONE});
        return ways;
    }

    // All positions of a Rules at once: its possible alternatives as a tree, whose leaves are one end.
    void open_rules(u32 symbol, const Definition& d) {
        struct Branch {
            std::map<u32, u32> children;
            bool complete = false;
        };
        std::vector<Branch> tree(1);
        for (auto& alternative : d.alternatives) {
            bool all = true;
            for (u32 part : alternative) all = all && possible_(part);
            if (!all) continue;
            budget_.spend(alternative.size() + 1);
            u32 branch = 0;
            for (u32 part : alternative) {
                auto added = tree[branch].children.try_emplace(part, u32(tree.size()));
                branch = added.first->second;
                if (added.second) tree.emplace_back();
            }
            tree[branch].complete = true;
        }
        std::vector<u32> ids(tree.size());
        for (u32 branch = 0; branch < tree.size(); branch++)
            ids[branch] = branch == 0                         ? first(symbol)
                          : tree[branch].children.empty() ? at(symbol, {1})
                                                              : at(symbol, {2, branch});
        for (u32 branch = 0; branch < tree.size(); branch++) {
            std::vector<Step> steps;
            std::map<u32, std::vector<u32>> lexemes;  // by target
            for (auto& child : tree[branch].children) {
                Step step;
                if (!found_step(child.first, 0, step)) continue;
                step.target = ids[child.second];
                if (step.lexeme == NONE)
                    steps.push_back(step);
                else
                    lexemes[step.target].push_back(child.first);
            }
            for (auto& group : lexemes) {
                if (group.second.size() <= 16) {
                    for (u32 part : group.second)
                        steps.push_back({program_.at(part).expression, part, group.first, false, false});
                    continue;
                }
                std::vector<u32> ways;  // many words to one end are one lexeme
                for (u32 part : group.second) ways.push_back(program_.at(part).expression);
                steps.push_back({lexemes_.nodes.either(ways), group.second[0], group.first, false, false});
            }
            finish(ids[branch], std::move(steps), tree[branch].complete);
        }
    }

    Decider possible_, nullable_;
    Ask ask_;
    Program& program_;
    Lexemes& lexemes_;
    Values& values_;
    Budget& budget_;
    Stable<Position> all_;
    HashIndex index_;
    std::unordered_map<u32, u32> first_;
    size_t bytes_ = 0;
};

}  // namespace ramify
