// What was written where it may not come again: texts while they grow, the values they spell, and sets of those.
#pragma once

#include <algorithm>
#include <string>
#include <unordered_map>

#include "lexemes.h"

namespace ramify {

struct NeededValue {  // Python has to say which value this text spells
    std::string text;
};

constexpr u32 NO_RECORD = NONE;       // nothing is recorded here
constexpr u32 SOME_TEXT = NONE - 1;   // recorded, but which text is left open: see Masks
constexpr u32 SOME_VALUE = NONE - 1;  // the value of that

class Values {
  public:
    explicit Values(Lexemes& lexemes) : lexemes_(lexemes) { sets_.push_back({}); }

    // Texts that grow byte by byte; 0 is the empty one.
    u32 longer(u32 text, u8 byte) {
        if (text == SOME_TEXT) return text;
        u64 key = u64(text) << 8 | byte;
        auto added = longer_.try_emplace(key, u32(texts_.size()));
        if (added.second) texts_.push_back({text, byte});
        return added.first->second;
    }
    std::string spelled(u32 text) const {
        std::string bytes;
        for (; text; text = texts_[text].first) bytes.push_back(char(texts_[text].second));
        return {bytes.rbegin(), bytes.rend()};
    }

    // Said by Python: `text` spells the value called `name`, and `spellings` are all the ways to spell it.
    void tell(const std::string& text, const std::string& name, u32 spellings) {
        auto added = values_.try_emplace(name, u32(spellings_.size()));
        if (added.second) spellings_.push_back(spellings);
        told_[text] = added.first->second;
    }

    // The set with the value of a text added to it.
    u32 with(u32 set, u32 text) {
        u32 value = text == SOME_TEXT ? SOME_VALUE : value_of(text);
        std::vector<u32> members = sets_[set];
        auto at = std::lower_bound(members.begin(), members.end(), value);
        if (at != members.end() && *at == value) return set;
        members.insert(at, value);
        u64 hash = 11;
        for (u32 member : members) hash = mixed(hash, member);
        u32 found = index_.find(hash, [&](u32 id) { return sets_[id] == members; });
        if (found != NONE) return found;
        sets_.push_back(members);
        index_.insert(hash, u32(sets_.size() - 1));
        return u32(sets_.size() - 1);
    }
    bool open(u32 set) const { return set && sets_[set].back() == SOME_VALUE; }

    // `expression` without any spelling of the set's values.
    u32 without(u32 expression, u32 set) {
        if (!set) return expression;
        u64 key = u64(expression) << 32 | set;
        auto known = without_.find(key);
        if (known != without_.end()) return known->second;
        std::vector<u32> ways;
        for (u32 value : sets_[set])
            if (value != SOME_VALUE) ways.push_back(spellings_[value]);
        Expressions& nodes = lexemes_.nodes;
        u32 result = ways.empty() ? expression : nodes.both({expression, nodes.complement(nodes.either(ways))});
        if (!lexemes_.alive(result)) result = NOTHING;
        without_[key] = result;
        return result;
    }
    size_t bytes() const {
        return texts_.size() * 48 + spellings_.size() * 160 + sets_.size() * 64 + without_.size() * 40;
    }

  private:
    u32 value_of(u32 text) {
        std::string bytes = spelled(text);
        auto known = told_.find(bytes);
        if (known != told_.end()) return known->second;
        if (!plain(bytes)) throw NeededValue{bytes};
        // a string of plain characters: its value is named as grammars/machine/scalars.py names it
        std::string name = "\"";
        Expressions& nodes = lexemes_.nodes;
        u32 spellings = byte('"');
        for (size_t i = bytes.size() - 1; i-- > 1;) spellings = nodes.concat(character(u8(bytes[i])), spellings);
        for (size_t i = 1; i + 1 < bytes.size(); i++) {
            name.push_back(bytes[i]);
            name.push_back('\0');
        }
        tell(bytes, name, nodes.concat(byte('"'), spellings));
        return told_[bytes];
    }
    static bool plain(const std::string& bytes) {
        if (bytes.size() < 2 || bytes.front() != '"' || bytes.back() != '"') return false;
        for (size_t i = 1; i + 1 < bytes.size(); i++)
            if (u8(bytes[i]) < 0x20 || u8(bytes[i]) > 0x7e || bytes[i] == '"' || bytes[i] == '\\') return false;
        return true;
    }
    u32 byte(u8 one, u8 other = 0) {
        ByteSet set;
        set.add(one);
        if (other) set.add(other);
        return lexemes_.nodes.byte_set(set);
    }
    u32 character(u8 code) {
        if (characters_.empty()) characters_.assign(128, NONE);
        if (characters_[code] != NONE) return characters_[code];
        Expressions& nodes = lexemes_.nodes;
        const char* digits = "0123456789abcdef";
        auto digit = [&](u32 value) {
            u8 lower = u8(digits[value]);
            return value < 10 ? byte(lower) : byte(lower, u8(lower - 32));
        };
        u32 number = nodes.concat(digit(code >> 4), digit(code & 15));
        for (u8 one : {u8('0'), u8('0'), u8('u'), u8('\\')}) number = nodes.concat(byte(one), number);
        std::vector<u32> ways{byte(code), number};
        if (code == '/') ways.push_back(nodes.concat(byte('\\'), byte('/')));
        return characters_[code] = nodes.either(ways);
    }

    Lexemes& lexemes_;
    std::vector<std::pair<u32, u8>> texts_{{0, 0}};
    std::unordered_map<u64, u32> longer_;
    std::unordered_map<std::string, u32> values_, told_;
    std::vector<u32> spellings_, characters_;
    std::vector<std::vector<u32>> sets_;
    HashIndex index_;
    std::unordered_map<u64, u32> without_;
};

}  // namespace ramify
