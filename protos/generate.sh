#!/usr/bin/env bash
# Generates clients/python/trackd/v1 from protos/trackd/v1 and protos/io/cloudevents/v1.
#
#   protos/generate.sh          writes the stubs
#   protos/generate.sh --check  writes nothing; fails if a file differs by a byte, is missing or is too many
#
# PYTHON names the interpreter to use (python3 by default). Needs a package registry, nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The oldest gRPC that the client library supports: stubs work with the version that made them and later ones. They say
# which one that was, so every other version gives other bytes. It needs a protobuf older than the daemon's and therefore
# an environment of its own.
readonly TOOLS=(grpcio-tools==1.74.0 grpcio==1.74.0 protobuf==6.31.1)
readonly STUBS=clients/python/trackd/v1

generate() { # the directory to write trackd/v1 into
  mkdir -p "$1/trackd/v1"
  "$scratch/venv/bin/python" -m grpc_tools.protoc -I protos \
    --python_out="$1" --pyi_out="$1" --grpc_python_out="$1" protos/trackd/v1/*.proto
  # The package io.cloudevents.v1 cannot be one of Python, whose own io is in the way: its module stands beside ours.
  "$scratch/venv/bin/python" -m grpc_tools.protoc -I protos \
    --python_out="$1" --pyi_out="$1" protos/io/cloudevents/v1/cloudevents.proto
  mv "$1"/io/cloudevents/v1/cloudevents_pb2.py "$1"/io/cloudevents/v1/cloudevents_pb2.pyi "$1/trackd/v1"
  rm -r "$1/io"
  sed -i 's/^from io\.cloudevents\.v1 import cloudevents_pb2 /from trackd.v1 import cloudevents_pb2 /' \
    "$1/trackd/v1/publish_pb2.py" "$1/trackd/v1/publish_pb2.pyi"
  printf '%s\n' '"""Generated from protos/trackd/v1; do not edit. Regenerate with protos/generate.sh."""' \
    >"$1/trackd/v1/__init__.py"
}

mode=${1:-write}
if [[ $# -gt 1 || ($mode != write && $mode != --check) ]]; then
  echo "usage: $0 [--check]" >&2
  exit 2
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check "${TOOLS[@]}"
generate "$scratch/out"

if [[ $mode == --check ]]; then
  if ! diff -r --brief --exclude=__pycache__ "$scratch/out/trackd/v1" "$STUBS"; then
    echo "$STUBS is not what protos/ gives; run protos/generate.sh and commit the result" >&2
    exit 1
  fi
  echo "$STUBS: $(find "$scratch/out" -type f | wc -l) files, every byte as generated"
else
  rm -rf "$STUBS"
  cp -r "$scratch/out/trackd/v1" "$STUBS"
fi
