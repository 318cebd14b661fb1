"""Prints the public items of a crate, one a line, from the JSON of rustdoc."""

import json
import sys


def items(crate):
    index = crate["index"]

    def get(key):
        return index.get(str(key))

    def module(path, children):
        for key in children:
            item = get(key)
            if item is None or item["visibility"] != "public":
                continue
            if "use" in item["inner"]:
                use = item["inner"]["use"]
                target = get(use["id"])
                if target is None:
                    yield f"use {path}::{use['name']} = {use['source']}"
                elif use["is_glob"]:
                    yield from module(path, target["inner"]["module"]["items"])
                else:
                    yield from described(f"{path}::{use['name']}", target)
            else:
                yield from described(f"{path}::{item['name']}", item)

    def described(path, item):
        ((kind, inner),) = item["inner"].items()
        if kind == "module":
            yield f"mod {path}"
            yield from module(path, inner["items"])
            return
        yield f"{kind} {path}"
        if kind == "struct":
            plain = inner["kind"].get("plain") if isinstance(inner["kind"], dict) else None
            fields = plain["fields"] if plain else []
            for field in map(get, fields):
                if field is not None and field["visibility"] == "public":
                    yield f"field {path}::{field['name']}"
        elif kind == "enum":
            for variant in map(get, inner["variants"]):
                if variant is not None:
                    yield f"variant {path}::{variant['name']}"
        elif kind == "trait":
            for member in map(get, inner["items"]):
                if member is not None:
                    yield f"method {path}::{member['name']}"
        for implementation in map(get, inner.get("impls", []) if isinstance(inner, dict) else []):
            # Those of traits say nothing new.
            if implementation is None or implementation["inner"]["impl"]["trait"] is not None:
                continue
            for member in map(get, implementation["inner"]["impl"]["items"]):
                if member is not None and member["visibility"] == "public":
                    yield f"method {path}::{member['name']}"

    root = get(crate["root"])
    yield from module(root["name"], root["inner"]["module"]["items"])


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        found = set(items(json.load(file)))
    for line in sorted(found, key=lambda line: (line.split(" ", 1)[1], line)):
        print(line)
