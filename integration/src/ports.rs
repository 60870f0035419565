use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, bail};

use crate::Ports;

/// Brokers of one block, and coords after them.
const BROKERS: u16 = 10;
const BLOCK: u16 = 16;
/// Blocks lie where neither the kernel picks ports for outgoing connections (32768 and up) nor a cluster of
/// `cluster.sh` lies by default, with the control ports 10000 and the HTTP ports 20000 above.
const FIRST: u16 = 10_000;
const BLOCKS: u16 = 125;

/// Ports that belong to one cluster of this machine until it is dropped.
///
/// The right to a block is a lock on a file, which the kernel lifts when its holder ends, however it ends: so any
/// number of test processes run side by side, and a node that is killed finds its ports free when it comes back.
#[derive(Debug)]
pub struct PortBlock {
    first: u16,
    _lock: File,
}

impl PortBlock {
    /// Takes a block that nobody holds and on which nobody listens.
    ///
    /// # Errors
    /// When all blocks are taken, or the directory of the locks cannot be written.
    pub fn reserve() -> Result<PortBlock> {
        let dir = env::temp_dir().join("gregor-ports");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        for n in 0..BLOCKS {
            let first = FIRST + n * BLOCK;
            let path = dir.join(first.to_string());
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            if lock.try_lock().is_ok() && is_free(first) {
                return Ok(PortBlock { first, _lock: lock });
            }
        }
        bail!(
            "all {BLOCKS} blocks of ports are taken; locks are in {}",
            dir.display()
        )
    }

    /// Where the nodes of this block's cluster listen.
    pub fn ports(&self) -> Ports {
        Ports {
            base_port: self.first,
            coord_port: self.first + BROKERS,
        }
    }
}

fn is_free(first: u16) -> bool {
    [0, 10_000, 20_000].iter().all(|step| {
        (first..first + BLOCK)
            .all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port + step)).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_share_no_port() {
        let (a, b) = (PortBlock::reserve().unwrap(), PortBlock::reserve().unwrap());
        assert!(a.first.abs_diff(b.first) >= BLOCK);
    }
}
