#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Embeds sentences with a real model, whose weights gds has loaded.

    embed.py MODEL VOCABULARY SENTENCE...

MODEL is all-MiniLM-L6-v2 as a safetensors file, VOCABULARY its words, one a line; in the
project's tree scripts/fetch-model gets both. Prints how alike the sentences are, as cosines,
and the way that the weights took. With --compare the weights are loaded by the package
safetensors, too, and both sets of embeddings must be equal to the bit.

What is of gds is one line, load_file(); the rest is the model, in torch alone.
"""

import argparse
import sys
import unicodedata

import torch
import torch.nn.functional as F

import gds
import gds.safetensors

HEADS = 12
EPSILON = 1e-12
MOST_TOKENS = 512


class WordPieces:
    """Cuts text into the pieces of words that the model knows, as BERT does, without case."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.number = {word.rstrip("\n"): number for number, word in enumerate(file)}

    @staticmethod
    def words(text):
        text = unicodedata.normalize("NFD", text.lower())
        word = ""
        for letter in text:
            kind = unicodedata.category(letter)
            if kind == "Mn":  # an accent
                continue
            if kind[0] in "PS" or letter.isspace():
                if word:
                    yield word
                word = ""
                if not letter.isspace():
                    yield letter
            else:
                word += letter
        if word:
            yield word

    def pieces(self, word):
        """The longest piece that is known, then the longest of the rest, and so on."""
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self.number:
                    found.append(self.number[piece])
                    break
            else:
                return [self.number["[UNK]"]]
            start = end
        return found

    def tokens(self, text):
        inner = [number for word in self.words(text) for number in self.pieces(word)]
        return [self.number["[CLS]"], *inner[: MOST_TOKENS - 2], self.number["[SEP]"]]


def linear(weights, name, x):
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def norm(weights, name, x):
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return F.layer_norm(x, weight.shape, weight, bias, EPSILON)


def attention(weights, layer, x):
    def heads(name):
        y = linear(weights, f"{layer}.attention.self.{name}", x)
        return y.view(len(x), HEADS, -1).transpose(0, 1)

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
    mixed = (scores.softmax(-1) @ value).transpose(0, 1).reshape(len(x), -1)
    mixed = linear(weights, f"{layer}.attention.output.dense", mixed)
    return norm(weights, f"{layer}.attention.output.LayerNorm", mixed + x)


def encode(weights, layer, x):
    x = attention(weights, layer, x)
    y = F.gelu(linear(weights, f"{layer}.intermediate.dense", x))
    return norm(weights, f"{layer}.output.LayerNorm", linear(weights, f"{layer}.output.dense", y) + x)


def embed(weights, tokens):
    """The embedding of one sentence, of length 1: the mean over its tokens."""
    x = (weights["embeddings.word_embeddings.weight"][tokens]
         + weights["embeddings.position_embeddings.weight"][: len(tokens)]
         + weights["embeddings.token_type_embeddings.weight"][0])
    x = norm(weights, "embeddings.LayerNorm", x)
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in weights:
        x = encode(weights, f"encoder.layer.{layer}", x)
        layer += 1
    return F.normalize(x.mean(0), dim=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("vocabulary")
    parser.add_argument("sentence", nargs="+")
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0, or another of gds")
    parser.add_argument("--compare", action="store_true", help="with the package safetensors")
    arguments = parser.parse_args()

    words = WordPieces(arguments.vocabulary)
    tokens = [torch.tensor(words.tokens(sentence)) for sentence in arguments.sentence]
    weights = gds.safetensors.load_file(arguments.model, arguments.device)
    with torch.no_grad():
        embeddings = torch.stack([embed(weights, sentence) for sentence in tokens])
    for sentence, row in zip(arguments.sentence, (embeddings @ embeddings.T).tolist()):
        print(" ".join(f"{cosine:6.3f}" for cosine in row), "", sentence)
    print(gds.default_reader())

    if arguments.compare:
        import safetensors.torch

        theirs = safetensors.torch.load_file(arguments.model, arguments.device)
        with torch.no_grad():
            same = torch.stack([embed(theirs, sentence) for sentence in tokens])
        if not torch.equal(embeddings, same):
            sys.exit("embed.py: the embeddings differ from those by safetensors")
        print("equal to the bit to those by safetensors")


if __name__ == "__main__":
    main()
