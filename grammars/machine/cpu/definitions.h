// A program as the core holds it: its definitions, flattened to numbers by Python, and read here with care.
#pragma once

#include "limits.h"

namespace ramify {

enum class Form : u8 { MISSING, LEXEME, RULES, COUNTED, OBJECT, ARRAY };

struct Member {
    u32 key, value;
    bool required;
    std::vector<u32> needs;
};
struct Others {
    u32 key, value, least, most;
    bool distinct;
};
struct Kind_ {
    u32 least, most;
};
struct Place {
    u32 value, kind;  // kind NONE: it counts as nothing
};

constexpr u32 UNBOUNDED = NONE;

struct Definition {
    Form form = Form::MISSING;
    u32 expression = 0;                         // LEXEME
    std::vector<std::vector<u32>> alternatives;  // RULES
    u32 item = 0, separator = NONE;             // COUNTED
    u32 least = 0, most = UNBOUNDED;            // COUNTED, OBJECT, ARRAY
    u32 opening = 0, colon = 0, comma = 0, closing = 0;
    bool ordered = true, unique = false;
    std::vector<Member> members;
    std::vector<Others> others;
    std::vector<std::vector<Place>> prefix;
    std::vector<Place> rest;
    std::vector<Kind_> kinds;
    // of an OBJECT, worked out from its members: bits of what each needs through others, of what must be there
    std::vector<std::vector<u32>> closed;
    std::vector<u32> must;
    bool circular = false, needy = false;  // needy: some member needs another
};

// Reads the numbers that grammars/machine/native_program.py writes. Raises Broken for anything else.
class DefinitionReader {
  public:
    DefinitionReader(const u32* data, size_t count) : at_(data), end_(data + count) {}

    Definition read() {
        Definition made;
        u32 form = next();
        if (form < 1 || form > 5) throw Broken{"an unknown form of definition"};
        made.form = Form(form);
        switch (made.form) {
            case Form::LEXEME: made.expression = next(); break;
            case Form::RULES: {
                u32 count = size();
                for (u32 i = 0; i < count; i++) made.alternatives.push_back(list());
                break;
            }
            case Form::COUNTED:
                made.item = next();
                made.least = next();
                made.most = next();
                made.separator = next();
                break;
            case Form::OBJECT: object(made); break;
            default: array(made);
        }
        if (at_ != end_) throw Broken{"a definition with something left over"};
        return made;
    }

  private:
    u32 next() {
        if (at_ == end_) throw Broken{"a definition that stops short"};
        return *at_++;
    }
    u32 size() {
        u32 count = next();
        if (count > size_t(end_ - at_)) throw Broken{"a definition that says it is longer than it is"};
        return count;
    }
    std::vector<u32> list() {
        u32 count = size();
        std::vector<u32> found(at_, at_ + count);
        at_ += count;
        return found;
    }
    void object(Definition& made) {
        made.opening = next();
        made.colon = next();
        made.comma = next();
        made.closing = next();
        made.least = next();
        made.most = next();
        made.ordered = next() != 0;
        u32 members = size();
        for (u32 i = 0; i < members; i++) {
            Member member;
            member.key = next();
            member.value = next();
            member.required = next() != 0;
            member.needs = list();
            for (u32 need : member.needs)
                if (need >= members) throw Broken{"a member needs one that is not there"};
            made.members.push_back(std::move(member));
        }
        u32 others = size();
        for (u32 i = 0; i < others; i++) {
            Others one;
            one.key = next();
            one.value = next();
            one.least = next();
            one.most = next();
            one.distinct = next() != 0;
            made.others.push_back(one);
        }
    }
    std::vector<Place> places() {
        std::vector<Place> found;
        u32 count = size();
        for (u32 i = 0; i < count; i++) {
            u32 value = next();
            found.push_back({value, next()});
        }
        return found;
    }
    void array(Definition& made) {
        made.opening = next();
        made.comma = next();
        made.closing = next();
        made.least = next();
        made.most = next();
        made.unique = next() != 0;
        u32 kinds = size();
        for (u32 i = 0; i < kinds; i++) {
            u32 least = next();
            made.kinds.push_back({least, next()});
        }
        u32 prefix = size();
        for (u32 i = 0; i < prefix; i++) made.prefix.push_back(places());
        made.rest = places();
        auto check = [&](const std::vector<Place>& some) {
            for (const Place& place : some)
                if (place.kind != NONE && place.kind >= kinds) throw Broken{"an element of a kind that is not there"};
        };
        for (auto& some : made.prefix) check(some);
        check(made.rest);
    }
    const u32 *at_, *end_;
};

}  // namespace ramify
