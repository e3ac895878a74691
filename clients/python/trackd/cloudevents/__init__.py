"""Generated from protos/trackd/cloudevents; do not edit. Regenerate with protos/generate.sh."""
