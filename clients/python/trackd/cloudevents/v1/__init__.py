"""Generated from protos/trackd/cloudevents/v1; do not edit. Regenerate with protos/generate.sh."""
