"""Every reason that a condition or an Event may carry. Programs match on them, so they are an enumeration and not
free text.
"""

from enum import StrEnum


class Reason(StrEnum):
    # In order
    READY = "Ready"
    ACCEPTED = "Accepted"
    IN_SYNC = "InSync"
    REACHABLE = "Reachable"
    FOUND = "Found"
    NO_DRIFT = "NoDrift"
    RUNNING = "Running"
    # Not accepted: somebody has to change a resource
    CONFLICT = "Conflict"
    PROTECTED = "Protected"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    VHOST_NOT_ALLOWED = "VhostNotAllowed"
    ALREADY_EXISTS = "AlreadyExists"
    NOT_EQUAL = "NotEqual"
    INVALID = "Invalid"
    # Connection
    CONNECTION_NOT_FOUND = "ConnectionNotFound"
    UNREACHABLE = "Unreachable"
    CREDENTIALS_REFUSED = "CredentialsRefused"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_NOT_ALLOWED = "SecretNotAllowed"
    SECRET_UNUSABLE = "SecretUnusable"
    ALARM = "BrokerAlarm"
    # Not in sync
    PENDING = "Pending"
    BROKER_REFUSED = "BrokerRefused"
    NOT_CONVERGING = "NotConverging"
    PLAN_PENDING = "PlanPending"
    PARTITIONS_SHRINK = "PartitionsShrink"
    PARTITION_INCREASE_NOT_ALLOWED = "PartitionIncreaseNotAllowed"
    REPLICAS_DIFFER = "ReplicasDiffer"
    UNKNOWN_SETTING = "UnknownSetting"
    IMMUTABLE_DRIFT = "ImmutableDrift"
    POLICY_CONFLICT = "PolicyConflict"
    DRIFT_REPORTED = "DriftReported"
    MISSING = "DependencyMissing"
    PAUSED = "Paused"
    CONNECTION_PAUSED = "ConnectionPaused"
    # ServiceRoute
    RESOLVED = "Resolved"
    PROGRAMMED = "Programmed"
    SERVICE_NOT_FOUND = "ServiceNotFound"
    PORT_NOT_FOUND = "PortNotFound"
    SERVICE_UNSUPPORTED = "ServiceUnsupported"
    NO_ENDPOINTS = "NoEndpoints"
    NO_GATEWAY = "NoGateway"
    SNAPSHOT_TOO_LARGE = "SnapshotTooLarge"
    # Deletion
    DELETING = "Deleting"
    IN_USE = "InUse"
    # Events only
    CREATED = "Created"
    UPDATED = "Updated"
    ADOPTED = "Adopted"
    DRIFT_CORRECTED = "DriftCorrected"
    DELETED = "Deleted"
    RETAINED = "Retained"
    RETAINED_AFTER_WAIT = "RetainedAfterWait"
    FORCED = "ForceFinalized"
    CREDENTIALS_ROTATED = "CredentialsRotated"
