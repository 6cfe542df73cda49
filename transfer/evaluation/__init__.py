"""evaluation: native and transferred steering beside every control, with intervals and a computed verdict."""
