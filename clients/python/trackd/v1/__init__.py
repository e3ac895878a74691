"""Generated from protos/trackd/v1; do not edit. Regenerate with protos/generate.sh."""
