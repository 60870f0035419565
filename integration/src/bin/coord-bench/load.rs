//! Closed loops: a number of requests is kept in flight, and the time of each is taken.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zookeeper_wire::{Acl, CreateRequest, PathWatch, Request, SetDataRequest};

use crate::connection::{Connection, REPLY_LIMIT};

/// Bytes of data in every znode.
const DATA: Bytes = Bytes::from_static(&[b'x'; 100]);
/// Znodes that one connection sets and reads in turn.
const KEYS: u64 = 16;
const NODE_EXISTS: i32 = -110;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Create,
    Set,
    Get,
}

impl Operation {
    pub(crate) const ALL: [Operation; 3] = [Operation::Create, Operation::Set, Operation::Get];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Set => "set",
            Operation::Get => "get",
        }
    }
}

/// How long, or how many.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent {
    For(Duration),
    Count(u64),
}

/// What one closed loop came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measurement {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// One connection's share of the loop.
struct Lane {
    connection: Connection,
    /// Where its znodes are.
    prefix: String,
    sent: u64,
    in_flight: VecDeque<(i32, Instant)>,
}

impl Lane {
    fn submit(&mut self, operation: Operation) {
        let request = match operation {
            Operation::Create => create(format!("{}/n{}", self.prefix, self.sent)),
            Operation::Set => Request::SetData(SetDataRequest {
                path: key(&self.prefix, self.sent % KEYS).into(),
                data: Some(DATA),
                version: -1,
            }),
            Operation::Get => Request::GetData(PathWatch {
                path: key(&self.prefix, self.sent % KEYS).into(),
                watch: false,
            }),
        };
        let xid = self.connection.send(&request);
        self.in_flight.push_back((xid, Instant::now()));
        self.sent += 1;
    }

    /// Takes what came, and gives the latencies of what is answered to `done`.
    fn settle(&mut self, mut done: impl FnMut(Duration)) -> Result<u64> {
        self.connection.receive()?;
        let now = Instant::now();
        let mut answered = 0;
        while let Some(reply) = self.connection.next_reply()? {
            let (xid, sent) = self
                .in_flight
                .pop_front()
                .context("a reply to no request")?;
            ensure!(
                xid == reply.xid,
                "reply {} before {xid}: out of order",
                reply.xid
            );
            ensure!(
                reply.error == 0,
                "request {xid} failed with error {}",
                reply.error
            );
            done(now - sent);
            answered += 1;
        }
        Ok(answered)
    }
}

/// Connections that are ready to keep a number of requests in flight.
pub(crate) struct Load {
    lanes: Vec<Lane>,
    /// Of each lane.
    depth: u64,
}

impl Load {
    /// Opens the square root of `in_flight` connections, spread over `servers`, each with znodes of its own. `run` tells
    /// the znodes of this load from those of others.
    ///
    /// # Errors
    /// When a server does not take the connection, or a znode cannot be created.
    pub(crate) fn open(servers: &[SocketAddr], run: u64, in_flight: u64) -> Result<Load> {
        let connections = in_flight.isqrt();
        let server = |n: u64| servers[((n + run) % servers.len() as u64) as usize];
        let lanes = (0..connections).map(|n| lane(server(n), run, n));
        Ok(Load {
            lanes: lanes.collect::<Result<_>>()?,
            depth: in_flight / connections,
        })
    }

    /// Keeps its requests under way, and takes the time of each.
    ///
    /// # Errors
    /// When a request fails, or none is answered in time.
    pub(crate) fn measure(&mut self, operation: Operation, extent: Extent) -> Result<Measurement> {
        let lanes = &mut self.lanes;
        let started = Instant::now();
        let mut latencies = Vec::with_capacity(1 << 18);
        for lane in &mut *lanes {
            for _ in 0..self.depth {
                lane.submit(operation);
            }
            lane.connection.flush()?;
        }
        loop {
            for n in ready(lanes)? {
                let answered = lanes[n].settle(|latency| latencies.push(latency))?;
                for _ in 0..answered {
                    lanes[n].submit(operation);
                }
                lanes[n].connection.flush()?;
            }
            let enough = match extent {
                Extent::For(duration) => started.elapsed() >= duration && !latencies.is_empty(),
                Extent::Count(count) => latencies.len() as u64 >= count,
            };
            if enough {
                break;
            }
        }
        let elapsed = started.elapsed();
        for lane in lanes {
            while !lane.in_flight.is_empty() {
                lane.settle(drop)?;
            }
        }
        Ok(measurement(latencies, elapsed))
    }

    /// Ends its sessions.
    ///
    /// # Errors
    /// When a server does not confirm it.
    pub(crate) fn close(self) -> Result<()> {
        let mut lanes = self.lanes.into_iter();
        lanes.try_for_each(|lane| lane.connection.close())
    }
}

fn measurement(mut latencies: Vec<Duration>, elapsed: Duration) -> Measurement {
    latencies.sort_unstable();
    let at = |percent: usize| {
        let rank = latencies.len() * percent / 100;
        latencies[rank.min(latencies.len() - 1)].as_secs_f64() * 1000.0
    };
    Measurement {
        requests: latencies.len() as u64,
        per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
        p50_ms: at(50),
        p99_ms: at(99),
    }
}

fn lane(server: SocketAddr, run: u64, n: u64) -> Result<Lane> {
    let mut connection = Connection::open(server, REPLY_LIMIT)?;
    let prefix = format!("/bench/run-{run}-{n}");
    let parents = ["/bench".to_owned(), prefix.clone()];
    let paths: Vec<String> = parents
        .into_iter()
        .chain((0..KEYS).map(|n| key(&prefix, n)))
        .collect();
    let replies = connection.call_all(paths.iter().map(|path| create(path.clone())))?;
    for (path, reply) in paths.iter().zip(replies) {
        ensure!(
            [0, NODE_EXISTS].contains(&reply.error),
            "{path} cannot be created: error {}",
            reply.error
        );
    }
    Ok(Lane {
        connection,
        prefix,
        sent: 0,
        in_flight: VecDeque::new(),
    })
}

fn key(prefix: &str, n: u64) -> String {
    format!("{prefix}/key{n}")
}

/// A request for a persistent znode that is open to all.
fn create(path: String) -> Request {
    let world = Acl {
        perms: 31,
        scheme: "world".into(),
        id: "anyone".into(),
    };
    Request::Create(CreateRequest {
        path: path.into(),
        data: Some(DATA),
        acl: vec![world],
        flags: 0,
    })
}

/// The lanes for which something has come.
fn ready(lanes: &[Lane]) -> Result<Vec<usize>> {
    let mut fds: Vec<PollFd<'_>> = lanes
        .iter()
        .map(|lane| PollFd::new(&lane.connection, PollFlags::IN))
        .collect();
    let limit = Timespec {
        tv_sec: REPLY_LIMIT.as_secs() as i64,
        tv_nsec: 0,
    };
    ensure!(
        poll(&mut fds, Some(&limit))? > 0,
        "no reply within {REPLY_LIMIT:?}"
    );
    Ok((0..fds.len())
        .filter(|n| !fds[*n].revents().is_empty())
        .collect())
}

/// A request that writes a znode which a [`Load`] has left behind for `run`.
pub(crate) fn probe(run: u64) -> Request {
    Request::SetData(SetDataRequest {
        path: key(&format!("/bench/run-{run}-0"), 0).into(),
        data: Some(DATA),
        version: -1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_latencies() {
        let latencies = (1..=200).rev().map(Duration::from_millis).collect();
        let found = measurement(latencies, Duration::from_secs(2));
        assert_eq!(
            (found.per_second, found.p50_ms, found.p99_ms),
            (100.0, 101.0, 199.0)
        );
    }
}
