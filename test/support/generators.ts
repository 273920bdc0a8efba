/** Loaded before the tests of every file: what holds for all generators of test data. */
import fc from "fast-check";

// Without it a list of at most 60 has at most 10: the long stories are the ones that find something.
fc.configureGlobal({ ...fc.readConfigureGlobal(), defaultSizeToMaxWhenMaxSpecified: true });
