//! How long an ensemble cannot write after its leader was killed.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::{LIMIT, await_true};

use crate::connection::{Connection, REPLY_LIMIT};
use crate::load::probe;
use crate::system::Ensemble;

/// How soon a client that was turned away comes again.
const RETRY: Duration = Duration::from_millis(2);

/// How long a client waits for a server to take its session before it asks the next.
const PATIENCE: Duration = Duration::from_millis(500);

/// Kills the leader, and takes the time until a client whose session is on a survivor has written again, on that
/// connection or on a new one that resumes the session. Then the killed server is started again and caught up.
///
/// # Errors
/// When no write succeeds in time, or the killed server does not come back.
pub(crate) fn time_to_new_leader(ensemble: &mut Ensemble) -> Result<Duration> {
    let leader = ensemble.await_leader()?;
    let survivors = (0..ensemble.len()).filter(|n| *n != leader);
    let addresses: Vec<_> = survivors.map(|n| ensemble.address(n)).collect();
    let mut client = Connection::open(addresses[0], REPLY_LIMIT)?;
    write(&mut client).context("before the kill")?;
    let session = client.session().clone();

    let killed = Instant::now();
    let process = ensemble.kill(leader)?;
    let mut written = write(&mut client);
    for address in addresses.iter().cycle() {
        let Err(refusal) = written else { break };
        if killed.elapsed() > LIMIT {
            return Err(refusal.context(format!("no write succeeds within {LIMIT:?}")));
        }
        thread::sleep(RETRY);
        written = Connection::resume(*address, &session, PATIENCE)
            .and_then(|mut client| write(&mut client));
    }
    let elapsed = killed.elapsed();

    process.reap();
    ensemble.start(leader)?;
    await_true("the killed server to follow", LIMIT, || {
        Ok(ensemble.mode(leader)? == "follower")
    })?;
    ensemble.await_session(leader)?;
    Ok(elapsed)
}

fn write(client: &mut Connection) -> Result<()> {
    let error = client.call(&probe(0))?.error;
    ensure!(error == 0, "error {error}");
    Ok(())
}
