//! Structured clone of values within one isolate (HTML, "StructuredSerialize" and "StructuredDeserialize").
