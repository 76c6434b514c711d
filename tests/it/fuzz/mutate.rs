//! Inputs made from others by changing them: for tests of whatever reads what strangers send. Each case follows from the seed
//! and its number alone, so that one which fails can be had again: set FUZZ_SEED to the seed that the failure names, and
//! FUZZ_CASE to its number. FUZZ_SECONDS says how long each target is tried; `script/fuzz` tries all of them for longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A case that takes longer hangs, whatever machine this is.
const HANGS: Duration = Duration::from_secs(120);
/// Bytes of a case that are not exceeded.
const LONGEST: usize = 1 << 16;

/// Makes cases until its time is over, and says which one failed when a test panics.
pub struct Fuzz {
    name: &'static str,
    seed: u64,
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    /// The next case.
    n: u64,
    only: Option<u64>,
    began: Instant,
    budget: Duration,
    current: Arc<Current>,
}

/// The case that is being tried, as the thread that watches for hanging ones sees it.
struct Current {
    /// Its number, from 1; 0 before the first and behind the last.
    number: AtomicU64,
    case: Mutex<Vec<u8>>,
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is \"{text}\"; allowed: a whole number")),
    )
}

impl Fuzz {
    /// `seeds`: what sound inputs look like. `words`: what they are made of, and what has been trouble elsewhere.
    pub fn new(name: &'static str, seeds: &[impl AsRef<[u8]>], words: &[&str]) -> Self {
        let current = Arc::new(Current {
            number: AtomicU64::new(0),
            case: Mutex::default(),
        });
        let fuzz = Self {
            name,
            seed: number("FUZZ_SEED").unwrap_or(1),
            seeds: seeds.iter().map(|s| s.as_ref().to_vec()).collect(),
            words: words.iter().chain(TROUBLE).map(|w| w.as_bytes().to_vec()).collect(),
            n: 0,
            only: number("FUZZ_CASE"),
            began: Instant::now(),
            budget: Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(1)),
            current,
        };
        assert!(!fuzz.seeds.is_empty(), "{name} has no seeds");
        fuzz.watch();
        fuzz
    }

    fn mutated(&self, random: &mut Random) -> Vec<u8> {
        let mut case = random.of(&self.seeds).clone();
        for _ in 0..=random.below(6) {
            let at = random.below(case.len() + 1);
            let end = (at + random.below(33)).min(case.len());
            match random.below(10) {
                0 if at < case.len() => case[at] ^= 1 << random.below(8),
                1 if at < case.len() => {
                    case[at] = *random.of(&[0, b' ', b'"', b'\'', b',', b'\\', b'%', b'\n', 0x7f, 0x80, 0xff])
                }
                2 => drop(case.drain(at..end)),
                3 => case.truncate(at),
                4 => {
                    let part = case[at..end].to_vec();
                    let times = 1 + random.below(64);
                    drop(case.splice(at..at, part.repeat(times)));
                }
                5 => {
                    let other = random.of(&self.seeds);
                    let from = random.below(other.len() + 1);
                    case.truncate(at);
                    case.extend_from_slice(&other[from..]);
                }
                6 => {
                    let bytes: Vec<u8> = (0..random.below(8)).map(|_| random.below(256) as u8).collect();
                    drop(case.splice(at..at, bytes));
                }
                7 => drop(case.splice(at..end, random.of(&self.words).iter().copied())),
                _ => drop(case.splice(at..at, random.of(&self.words).iter().copied())),
            }
            case.truncate(LONGEST);
        }
        case
    }

    /// Ends the process over a case that never ends, since no test can be ended from outside.
    fn watch(&self) {
        let (current, name, seed) = (Arc::downgrade(&self.current), self.name, self.seed);
        std::thread::spawn(move || {
            let (mut seen, mut since) = (0, Instant::now());
            loop {
                std::thread::park_timeout(Duration::from_secs(1));
                let Some(current) = current.upgrade() else { return };
                let number = current.number.load(Ordering::Acquire);
                if number != seen || number == 0 {
                    (seen, since) = (number, Instant::now());
                } else if since.elapsed() > HANGS {
                    let case = current.case.lock().unwrap_or_else(PoisonError::into_inner);
                    eprintln!("fuzz {name}: hangs; {}", told(seed, number - 1, &case));
                    std::process::abort();
                }
            }
        });
    }
}

impl Iterator for Fuzz {
    type Item = Vec<u8>;

    /// The next case; none when the time is over. The first cases are the seeds as they are.
    fn next(&mut self) -> Option<Vec<u8>> {
        let n = match self.only {
            Some(only) if self.n == 0 => only,
            Some(_) => return None,
            // The seeds themselves are always tried.
            None if self.n >= self.seeds.len() as u64 && self.began.elapsed() >= self.budget => return None,
            None => self.n,
        };
        self.n += 1;
        let case = match self.seeds.get(usize::try_from(n).unwrap_or(usize::MAX)) {
            Some(seed) => seed.clone(),
            None => self.mutated(&mut Random(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n)),
        };
        let current = &self.current;
        current
            .case
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&case);
        current.number.store(n + 1, Ordering::Release);
        Some(case)
    }
}

fn told(seed: u64, n: u64, case: &[u8]) -> String {
    format!("FUZZ_SEED={seed} FUZZ_CASE={n}, which is b\"{}\"", case.escape_ascii())
}

impl Drop for Fuzz {
    fn drop(&mut self) {
        let number = self.current.number.swap(0, Ordering::AcqRel);
        if std::thread::panicking() {
            let case = self.current.case.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!(
                "fuzz {}: {}",
                self.name,
                told(self.seed, number.saturating_sub(1), &case)
            );
        } else {
            let seconds = self.began.elapsed().as_secs_f64().max(0.001);
            println!(
                "fuzz {:<24} {:>9} cases, {:>8.0} a second, seed {}",
                self.name,
                self.n,
                self.n as f64 / seconds,
                self.seed
            );
        }
    }
}

/// SplitMix64: small, fast, and the same everywhere.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        match n {
            0 => 0,
            n => (self.draw() % n as u64) as usize,
        }
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// What has been trouble in one program or another.
const TROUBLE: &[&str] = &[
    "0",
    "-1",
    "1e309",
    "-0",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "4294967296",
    "0.1",
    "NaN",
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
    "\0",
    "\r\n",
    "\n\n",
    "\t",
    "%00",
    "%ff",
    "%",
    "+",
    "&",
    "=",
    ";",
    ",",
    "../",
    "..\\",
    "/",
    "\\",
    "'",
    "\"",
    "`",
    "<script>",
    "' OR 1=1 --",
    "%%%",
    "_",
    "*",
    "\u{FEFF}",
    "\u{202E}",
    "\u{200B}",
    "\u{1F600}",
    "ß",
    "İ",
    "e\u{301}",
    "\u{D7FF}",
    "\u{FFFD}",
    "99999999999999999999999999",
    "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "2016-12-31T23:59:60Z",
    "+10000-01-01T00:00:00Z",
    "-0001-01-01T00:00:00Z",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];
