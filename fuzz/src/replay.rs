//! For ordinary tests: a corpus through its target's code. Not part of the fuzz library.

use std::fs;
use std::path::Path;

/// Runs every case of the target's corpus, and some that were made by cutting it short.
pub fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut cases = 0;
    for entry in fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        let case = fs::read(&path).unwrap();
        // The name of a case that fails is the last in the test's output.
        println!("{}", path.display());
        run(&case);
        run(case.get(..case.len() / 2).unwrap_or_default());
        cases += 1;
    }
    assert!(cases >= 20, "only {cases} cases in {}", corpus.display());
}
