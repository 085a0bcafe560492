"""An encoder with a head over the classes: log p(class | text) is learned directly."""
