#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the man pages of the public interface from what Doxygen read of the headers.

    make-pages.py XML_FOLDER OUTPUT_FOLDER VERSION HEADER...

Each call, structure and enumeration gets a page in section 3; each header's own comment one in
section 7, with a list of what it declares. What a comment does not say but a page needs (a
return value, a word on a member), and markup that is not known here, is an error. The pages
bear the date of the newest header, or of $SOURCE_DATE_EPOCH, as reproducible builds want it.
"""
import os
import re
import sys
import textwrap
import time
import xml.etree.ElementTree as ElementTree

WIDTH = 76
INDENT = " " * 8
HEADER_PAGES = {"gds.h": "gds", "backend.h": "gds-backend"}


class PageError(Exception):
    pass


# ---- Troff ------------------------------------------------------------------------


def escape(text):
    return text.replace("\\", "\\e").replace("-", "\\-")


def protect(line):
    """A line of text that troff must not take for a request."""
    return "\\&" + line if line[:1] in ".'" else line


def sentences(text):
    """Lines of prose: each sentence begins one, as mandoc wants it, and none is long."""
    for sentence in re.split(r"(?<=[.?!:])\s+(?=\S)", text.strip()):
        for line in textwrap.wrap(sentence, WIDTH, break_long_words=False,
                                  break_on_hyphens=False):
            yield protect(line)


def bold_pages(text):
    """open(2), as man pages write it."""
    return re.sub(r"(?<!\\)\b([a-z][\w.+]*)\((\d)\)", r"\\fB\1\\fP(\2)", text)


def code_block(text):
    return [".PP", ".in +4n", ".EX", *(protect(escape(line)) for line in text), ".EE", ".in"]


# ---- Doxygen's markup --------------------------------------------------------------


def code_lines(element):
    """The lines of a programlisting. Doxygen counts a tab behind the comment's star as five."""
    lines = []
    for line in element.iter("codeline"):
        text = code_text(line)
        indent = len(text) - len(text.lstrip())
        tabs, spaces = divmod(indent + 3, 8)
        if indent and not spaces:
            text = "    " * tabs + text.lstrip()
        lines.append(text)
    return lines


def code_text(element):
    text = " " if element.tag == "sp" else element.text or ""
    return text + "".join(code_text(child) + (child.tail or "") for child in element)


def inline(element, known):
    """The text of an element, with its fonts."""
    text = escape(element.text or "")
    for child in element:
        inner = inline(child, known)
        if child.tag == "computeroutput":
            inner = f"\\fI{inner}\\fP"
        elif child.tag == "bold":
            inner = f"\\fB{inner}\\fP"
        elif child.tag == "ref":
            called = "".join(child.itertext()).removesuffix("()")
            inner = f"\\fB{called}\\fP(3)" if called in known else inner
        elif child.tag != "emphasis":
            raise PageError(f"<{child.tag}> is not known to make-pages.py")
        text += inner + escape(child.tail or "")
    return text


BLOCKS = {"simplesect", "parameterlist", "programlisting", "verbatim"}


class Comment:
    """What a comment says: its brief, its paragraphs, and the parts with a meaning."""

    def __init__(self, element, known):
        self.known = known
        self.brief = ""
        self.text = []      # lines of troff, after the brief
        self.returns = []   # lines of troff
        self.errors = []    # (name, lines of troff)
        self.example = []   # lines of code
        self.first = self.prose(element.find("briefdescription/para"))
        self.brief = " ".join(self.first).rstrip(".")
        for para in element.iterfind("detaileddescription/para"):
            self.add(para)

    def prose(self, element):
        if element is None:
            return []
        return list(sentences(bold_pages(inline(element, self.known))))

    def paragraph(self, lines):
        if lines:
            self.text += [".PP", *lines]

    def add(self, para):
        """A paragraph, which Doxygen lets hold whole blocks among its words."""
        words = ElementTree.Element("para")
        words.text = para.text
        for child in para:
            if child.tag not in BLOCKS:
                words.append(child)
                continue
            self.paragraph(self.prose(words))
            self.block(child)
            words = ElementTree.Element("para")
            words.text = child.tail
        self.paragraph(self.prose(words))

    def block(self, element):
        kind = element.get("kind")
        if element.tag == "verbatim":
            self.text += code_block(element.text.rstrip().split("\n"))
        elif element.tag == "parameterlist" and kind == "retval":
            for item in element.iter("parameteritem"):
                self.errors.append((item.find(".//parametername").text,
                                    self.prose(item.find("parameterdescription/para"))))
        elif element.tag == "simplesect" and kind == "return":
            self.returns = self.prose(element.find("para"))
        elif element.tag == "simplesect" and element.findtext("title") == "Example":
            self.example = code_lines(element)
        else:
            raise PageError(f"<{element.tag} kind={kind}> is not known to make-pages.py")

    def item(self):
        """Brief and text as one paragraph, for lists."""
        return self.first + [line for line in self.text if line != ".PP"]


# ---- What the headers declare ------------------------------------------------------


def plain(element):
    return "".join(element.itertext()).strip() if element is not None else ""


def joined(kind, name):
    """A type and a name, as C writes them."""
    if "(*)" in kind:
        return kind.replace("(*)", f" (*{name})", 1)
    return kind + name if kind.endswith("*") else f"{kind} {name}"


def declaration(text, indent):
    """A line of C, as several where it is long: it is cut behind commas."""
    text = re.sub(r"\b(int|void)\(", r"\1 (", text)
    lines = textwrap.wrap(re.sub(r"(?<!,) ", "\0", text), WIDTH, initial_indent=indent,
                          subsequent_indent=indent + INDENT, break_long_words=False)
    return [line.replace("\0", " ") for line in lines]


class Declared:
    """A call, structure or enumeration; `parts` are its members or values."""

    def __init__(self, element, kind, header, known):
        self.kind = kind
        self.name = (element.findtext("name") or element.findtext("compoundname")).strip()
        self.header = header
        self.element = element
        try:
            self.comment = Comment(element, known)
        except PageError as error:
            raise PageError(f"{self.name}: {error}") from None
        if not self.comment.brief:
            raise PageError(f"{self.name}: its comment has no first sentence")
        parts = {"struct": "sectiondef/memberdef", "enum": "enumvalue"}.get(kind)
        self.parts = [(part, Comment(part, known)) for part in element.iterfind(parts)] \
            if parts else []
        for part, comment in self.parts:
            if not comment.brief:
                raise PageError(f"{self.name}: no word on {part.findtext('name')}")
        if kind == "function" and plain(element.find("type")) != "void" \
                and not self.comment.returns:
            raise PageError(f"{self.name}: its comment has no @return")

    def mentions(self, known):
        """Pages of others that its declaration or its comment names, if only by a value."""
        values = {part.findtext("name"): other.name for other in known.values()
                  if other.kind == "enum" for part, _ in other.parts}
        names = re.findall(r"\b(?:gds|GDS)_\w+", " ".join(self.element.itertext()))
        found = {values.get(name, name) for name in names}
        return sorted(found & set(known) - {self.name})


def header_of(element):
    return os.path.basename(element.find("location").get("file"))


def first_line(group):
    """Where the group begins in its header."""
    return min(int(place.get("line")) for place in group.iter("location"))


def load(folder):
    """The headers' own elements by name, and all that they declare by name."""
    trees = [ElementTree.parse(os.path.join(folder, name)).getroot()
             for name in sorted(os.listdir(folder)) if name.endswith(".xml")]
    compounds = [compound for tree in trees for compound in tree.iter("compounddef")]
    found = {}
    for compound in compounds:
        if compound.get("kind") == "struct":
            found[compound.findtext("compoundname")] = ("struct", compound)
        for member in compound.iter("memberdef"):
            if compound.get("kind") == "group" and member.get("kind") in ("function", "enum"):
                found[member.findtext("name")] = (member.get("kind"), member)
    declared = {name: Declared(element, kind, header_of(element), found)
                for name, (kind, element) in found.items()}
    headers = {compound.findtext("compoundname"): compound for compound in compounds
               if compound.get("kind") == "file"}
    groups = sorted((compound for compound in compounds if compound.get("kind") == "group"),
                    key=first_line)
    return headers, groups, declared


# ---- Pages -------------------------------------------------------------------------


def synopsis_of_call(declared):
    element = declared.element
    kind = plain(element.find("type"))
    parameters = [joined(plain(p.find("type")), p.findtext("declname") or "").strip()
                  for p in element.iterfind("param")] or ["void"]
    head = joined(kind, declared.name) + "("
    line = head + ", ".join(parameters) + ");"
    if len(line) <= WIDTH:
        return [line]
    ends = ["," for _ in parameters[1:]] + [");"]
    return [head] + [line for parameter, end in zip(parameters, ends)
                     for line in declaration(parameter + end, INDENT)]


def synopsis_of_struct(declared):
    lines = [f"struct {declared.name} {{"]
    for member, _ in declared.parts:
        name = member.findtext("name")
        arguments = plain(member.find("argsstring"))
        kind = plain(member.find("type"))
        lines += declaration(joined(kind, name) + arguments + ";", INDENT)
    return lines + ["};"]


def synopsis_of_enum(declared):
    return [f"enum {declared.name} {{"] + \
        [f"{INDENT}{value.findtext('name')} {plain(value.find('initializer'))},"
         for value, _ in declared.parts] + ["};"]


SYNOPSES = {"function": synopsis_of_call, "struct": synopsis_of_struct,
            "enum": synopsis_of_enum}


LIBRARY = [".SH LIBRARY", "gds", r"(\fIlibgds\fP, \fI\-lgds\fP; \fIpkg\-config gds\fP)"]


def name_section(name, brief):
    """The first letter of a sentence becomes small, unless its word is a name."""
    first = brief.split(" ", 1)[0]
    if not first[1:2].isupper() and not first.startswith("\\"):
        brief = brief[0].lower() + brief[1:]
    return [".SH NAME", *textwrap.wrap(f"{escape(name)} \\- {brief}", WIDTH)]


def see_also(names, header):
    names = [*names, HEADER_PAGES[header]]
    last = len(names) - 1
    return [f".BR {escape(name)} ({7 if name in HEADER_PAGES.values() else 3})"
            + ("," if i < last else "") for i, name in enumerate(names)]


def title(name, section, version, date):
    return ['.\\" SPDX-License-Identifier: Apache-2.0',
            '.\\" Made by docs/man/make-pages.py from the comments of the headers.',
            f'.TH {escape(name.upper())} {section} {date} "gds {version}" "gds"']


def page_of(declared, all_declared, version, date):
    comment = declared.comment
    lines = title(declared.name, 3, version, date)
    lines += name_section(declared.name, comment.brief)
    lines += LIBRARY
    lines += [".SH SYNOPSIS", ".nf", f".B #include <gds/{declared.header}>", ".PP",
              ".ft B", *(protect(escape(line)) for line in SYNOPSES[declared.kind](declared)),
              ".ft R", ".fi"]
    lines += [".SH DESCRIPTION", *comment.first]
    lines += comment.text
    for part, said in declared.parts:
        lines += [".TP", f".B {escape(part.findtext('name'))}", *said.item()]
    if comment.returns:
        lines += [".SH RETURN VALUE", *comment.returns]
    if comment.errors:
        lines += [".SH ERRORS"]
        for name, said in comment.errors:
            lines += [".TP", f".B {escape(name)}", *said]
        lines += [".PP", r"\fBgds_last_error\fP(3) then tells what failed, on what, and what to",
                  r"do; \fBgds\fP(7) lists what every call may give."]
    if comment.example:
        lines += [".SH EXAMPLES", *code_block(comment.example)[1:]]
    mentions = declared.mentions(all_declared)
    if declared.kind != "function":
        mentions += [name for name, other in sorted(all_declared.items())
                     if other.kind == "function" and declared.name in other.mentions(all_declared)
                     and name not in mentions]
    elif comment.errors and "gds_last_error" not in mentions:
        mentions.append("gds_last_error")
    lines += [".SH SEE ALSO", *see_also(sorted(mentions), declared.header)]
    return lines


def header_page(header, element, groups, declared, version, date):
    known = declared
    comment = Comment(element, known)
    name = HEADER_PAGES[header]
    lines = title(name, 7, version, date)
    brief = comment.brief.removeprefix("gds \\- ")
    lines += name_section(name, brief) + LIBRARY
    lines += [".SH SYNOPSIS", f".B #include <gds/{header}>",
              ".SH DESCRIPTION", *comment.text[1:]]
    for group in groups:
        calls = [member.findtext("name") for member in group.iter("memberdef")
                 if member.get("kind") == "function"]
        types = [inner.text for inner in group.iterfind("innerclass")] + \
            [member.findtext("name") for member in group.iter("memberdef")
             if member.get("kind") == "enum"]
        here = [item for item in calls + types if declared[item].header == header]
        if not here:
            continue
        lines += [f".SS {escape(group.findtext('title'))}"]
        for item in here:
            kind = "" if declared[item].kind == "function" else declared[item].kind + " "
            lines += [".TP", f".BR \"{kind}{item}\" (3)", *declared[item].comment.first]
    others = [page for page in HEADER_PAGES.values() if page != name]
    lines += [".SH SEE ALSO", ".BR gds\\-bench (1),"]
    lines += [f".BR {escape(page)} (7)" for page in others]
    return lines


def date_of(headers):
    seconds = os.environ.get("SOURCE_DATE_EPOCH") or max(map(os.path.getmtime, headers))
    return time.strftime("%Y-%m-%d", time.gmtime(int(seconds)))


def main():
    if len(sys.argv) < 5:
        sys.exit("Usage: " + __doc__.split("\n\n")[1].strip())
    xml, output, version = sys.argv[1:4]
    date = date_of(sys.argv[4:])
    headers, groups, declared = load(xml)
    pages = {f"{name}.3": page_of(each, declared, version, date)
             for name, each in declared.items()}
    for header, name in HEADER_PAGES.items():
        pages[f"{name}.7"] = header_page(header, headers[header], groups, declared, version, date)
    os.makedirs(output, exist_ok=True)
    for old in os.listdir(output):
        os.remove(os.path.join(output, old))
    for name, lines in pages.items():
        with open(os.path.join(output, name), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    try:
        main()
    except PageError as error:
        sys.exit(f"make-pages.py: {error}")
