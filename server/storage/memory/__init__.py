"""The reference engine: plain dictionaries, no durability. The model that other engines are tested against."""
