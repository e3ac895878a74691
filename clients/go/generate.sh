#!/usr/bin/env bash
# Generates clients/go/trackd/v1 from protos/trackd/v1.
#
#   clients/go/generate.sh          writes the stubs
#   clients/go/generate.sh --check  writes nothing; fails if a file differs by a byte, is missing or is too many
#
# Needs Go and, as PYTHON (python3 by default), a Python whose package index has grpcio-tools: that brings protoc.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The same protoc as for Python; the plugins are pinned by clients/go/tools/go.mod.
readonly PROTOC=(grpcio-tools==1.74.0 grpcio==1.74.0 protobuf==6.31.1)
readonly PLUGINS=(google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc)
readonly STUBS=clients/go/trackd/v1

mode=${1:-write}
if [[ $# -gt 1 || ($mode != write && $mode != --check) ]]; then
  echo "usage: $0 [--check]" >&2
  exit 2
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check "${PROTOC[@]}"
(cd clients/go/tools && GOBIN=$scratch/venv/bin go install "${PLUGINS[@]}")
mkdir "$scratch/out"
PATH=$scratch/venv/bin:$PATH "$scratch/venv/bin/python" -m grpc_tools.protoc -I protos \
  --go_out="$scratch/out" --go_opt=module=trackd.dev/clients/go \
  --go-grpc_out="$scratch/out" --go-grpc_opt=module=trackd.dev/clients/go protos/trackd/v1/*.proto

if [[ $mode == --check ]]; then
  if ! diff -r --brief "$scratch/out/trackd/v1" "$STUBS"; then
    echo "$STUBS is not what protos/trackd/v1 gives; run clients/go/generate.sh and commit the result" >&2
    exit 1
  fi
  echo "$STUBS: $(find "$scratch/out" -type f | wc -l) files, every byte as generated"
else
  rm -rf "$STUBS"
  cp -r "$scratch/out/trackd/v1" "$STUBS"
fi
