/** Loaded before the tests of every file: settings of all generators of test data. */
import fc from "fast-check";

// By default a list of at most 60 gets at most 10 items, but the long lists find the bugs.
fc.configureGlobal({ ...fc.readConfigureGlobal(), defaultSizeToMaxWhenMaxSpecified: true });
