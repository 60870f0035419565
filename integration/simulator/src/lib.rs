//! A whole ensemble of coord on a virtual clock, network and disk, from one seed.

pub mod client;
pub mod clock;
pub mod dice;
pub mod disk;
pub mod history;
pub mod invariants;
pub mod lifeline;
pub mod model;
pub mod network;
pub mod node;
pub mod panics;
pub mod process;
pub mod schedule;
pub mod story;
pub mod transport;
pub mod world;

#[cfg(test)]
mod tests {
    #[test]
    fn some() {
        let start = std::time::Instant::now();
        let (a, b) = std::env::var("SEEDS").map_or((0, 100), |s| {
            let (a, b) = s.split_once("..").unwrap();
            (a.parse().unwrap(), b.parse().unwrap())
        });
        let verbose = std::env::var("V").is_ok();
        let mut failed = 0;
        for seed in a..b {
            let o = crate::world::run(seed);
            if verbose {
                println!(
                    "seed {seed} {:?} {} events",
                    o.history.0.last().unwrap().at,
                    o.history.0.len()
                );
            }
            if std::env::var("D").is_ok() {
                let p = crate::world::run(seed);
                if p.history.digest() != o.history.digest() {
                    for (i, (a, b)) in o.history.0.iter().zip(&p.history.0).enumerate() {
                        let (a, b) = (a.to_string(), b.to_string());
                        if i > 0 && a != b {
                            println!("{} {}", i - 1, p.history.0[i - 1]);
                            println!("{i} {a}");
                            println!("{i} {b}");
                            println!("{} {}", i + 1, p.history.0[i + 1]);
                            panic!("seed {seed} differs")
                        }
                    }
                }
            }
            if let Err(v) = o.result {
                failed += 1;
                if failed == 1 {
                    for (i, e) in o.history.0.iter().enumerate() {
                        println!("{i:5} {e}");
                    }
                }
                println!("FAILED seed {seed}: {v}");
                if failed > 8 {
                    break;
                }
            }
        }
        println!("{} in {:?}, {failed} failed", b - a, start.elapsed());
        assert_eq!(failed, 0);
    }
}
