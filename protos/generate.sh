#!/usr/bin/env bash
# Generates clients/python/trackd/v1 and trackd/cloudevents beside it from protos/.
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
readonly HOME_OF_STUBS=clients/python/trackd
readonly STUBS=(v1 cloudevents)

generate() { # the directory to write trackd/v1 and trackd/cloudevents into
  mkdir -p "$1/trackd"
  "$scratch/venv/bin/python" -m grpc_tools.protoc -I protos --python_out="$1" --pyi_out="$1" --grpc_python_out="$1" \
    protos/trackd/v1/*.proto protos/trackd/cloudevents/v1/*.proto
  # The package io.cloudevents.v1 cannot be one of Python, whose own io is in the way: its module stands beside ours.
  "$scratch/venv/bin/python" -m grpc_tools.protoc -I protos --python_out="$1" --pyi_out="$1" \
    protos/io/cloudevents/v1/cloudevents.proto
  local -r own=$1/trackd/cloudevents/v1
  mv "$1"/io/cloudevents/v1/cloudevents_pb2.py "$1"/io/cloudevents/v1/cloudevents_pb2.pyi "$own"
  rm -r "$1/io"
  sed -i 's/^from io\.cloudevents\.v1 import cloudevents_pb2 /from trackd.cloudevents.v1 import cloudevents_pb2 /' \
    "$own/publish_pb2.py" "$own/publish_pb2.pyi"
  for package in v1 cloudevents cloudevents/v1; do
    printf '"""Generated from protos/trackd/%s; do not edit. Regenerate with protos/generate.sh."""\n' "$package" \
      >"$1/trackd/$package/__init__.py"
  done
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

for package in "${STUBS[@]}"; do
  if [[ $mode == --check ]]; then
    if ! diff -r --brief --exclude=__pycache__ "$scratch/out/trackd/$package" "$HOME_OF_STUBS/$package"; then
      echo "$HOME_OF_STUBS/$package is not what protos/ gives; run protos/generate.sh and commit the result" >&2
      exit 1
    fi
  else
    rm -rf "${HOME_OF_STUBS:?}/$package"
    cp -r "$scratch/out/trackd/$package" "$HOME_OF_STUBS/$package"
  fi
done
[[ $mode != --check ]] || echo "$HOME_OF_STUBS: $(find "$scratch/out" -type f | wc -l) files, every byte as generated"
