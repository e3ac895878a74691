"""What tests of several kinds share: builders of events, homes of stores."""
