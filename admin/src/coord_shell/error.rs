//! Why a command failed, as the line that ZooKeeper's shell prints.

use zookeeper_client::Error;

/// Why a command failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ShellError {
    /// There is no such command.
    #[error("Command not found: {0}")]
    CommandNotFound(String),
    /// The words behind the command are not what it takes.
    #[error("{0}")]
    Usage(String),
    /// There is no session.
    #[error("Not connected")]
    NotConnected,
    /// No server gives a session.
    #[error("Cannot connect to {servers}: {cause}; is coord running there?")]
    Unreachable {
        /// Where.
        servers: String,
        /// Why.
        cause: String,
    },
    /// The server, or the way to it.
    #[error("{}", describe(error, path))]
    Keeper {
        /// Why.
        error: Error,
        /// The znode that was asked for.
        path: String,
    },
    /// No answer came in time.
    #[error("KeeperErrorCode = OperationTimeout for {path}")]
    Silent {
        /// The znode that was asked for.
        path: String,
    },
    /// A file cannot be read.
    #[error("Error processing {path}: {cause}")]
    File {
        /// Which.
        path: String,
        /// Why.
        cause: String,
    },
}

impl ShellError {
    /// What the program exits with, if this was its only command.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            ShellError::CommandNotFound(_) => 127,
            _ => 1,
        }
    }

    pub(super) fn is_no_node(&self) -> bool {
        matches!(
            self,
            ShellError::Keeper {
                error: Error::NoNode,
                ..
            }
        )
    }
}

/// ZooKeeper's error codes that the client knows no name for.
const NEW_CONFIG_NO_QUORUM: i32 = -13;
const RECONFIG_IN_PROGRESS: i32 = -14;

fn describe(error: &Error, path: &str) -> String {
    let code = match error {
        Error::NoNode => return format!("Node does not exist: {path}"),
        Error::NoChildrenForEphemerals => {
            return format!("Ephemerals cannot have children: {path}");
        }
        Error::NodeExists => return format!("Node already exists: {path}"),
        Error::NotEmpty => return format!("Node not empty: {path}"),
        Error::NotReadOnly => return format!("Not a read-only call: {path}"),
        Error::InvalidAcl => return format!("Acl is not valid : {path}"),
        Error::NoAuth => return format!("Insufficient permission : {path}"),
        Error::BadArguments(reason) if **reason == "path must start with '/'" => {
            return "Path must start with / character".to_owned();
        }
        Error::BadArguments(reason) if **reason == "path must not end with '/'" => {
            return "Path must not end with / character".to_owned();
        }
        Error::BadArguments(reason) => {
            return format!("Arguments are not valid : {path}: {reason}");
        }
        Error::BadVersion => return format!("version No is not valid : {path}"),
        Error::QuotaExceeded => return format!("Quota has exceeded : {path}"),
        Error::UnexpectedErrorCode(RECONFIG_IN_PROGRESS) => {
            return "Another reconfiguration is in progress: wait until it is done".to_owned();
        }
        Error::UnexpectedErrorCode(NEW_CONFIG_NO_QUORUM) => {
            return "No quorum of the new members is connected and up to date: start them and try again"
                .to_owned();
        }
        Error::ConnectionLoss => "ConnectionLoss".to_owned(),
        Error::MarshallingError => "MarshallingError".to_owned(),
        Error::Unimplemented => "Unimplemented".to_owned(),
        Error::AuthFailed => "AuthFailed".to_owned(),
        Error::SessionExpired => "Session expired".to_owned(),
        Error::SessionMoved => "Session moved".to_owned(),
        Error::NoWatcher => "No such watcher".to_owned(),
        Error::ReconfigDisabled => "Reconfig is disabled".to_owned(),
        Error::Throttled => "Op throttled due to high load".to_owned(),
        other => other.to_string(),
    };
    format!("KeeperErrorCode = {code} for {path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_that_names_the_znode() {
        let message = |error| {
            let path = "/x".to_owned();
            ShellError::Keeper { error, path }.to_string()
        };
        assert_eq!(message(Error::NoNode), "Node does not exist: /x");
        assert_eq!(message(Error::NodeExists), "Node already exists: /x");
        assert_eq!(message(Error::NoAuth), "Insufficient permission : /x");
        assert_eq!(
            message(Error::BadArguments(&"path must start with '/'")),
            "Path must start with / character"
        );
        assert_eq!(
            message(Error::ConnectionLoss),
            "KeeperErrorCode = ConnectionLoss for /x"
        );
        assert_eq!(
            ShellError::CommandNotFound("lss".to_owned()).exit_code(),
            127
        );
        assert_eq!(ShellError::NotConnected.exit_code(), 1);
    }
}
