"""Every table there is: importing this fills the metadata that migrations and tests compare with."""

from sqlmodel import SQLModel

from control_plane.access.rows import KeyRow, ProjectRow
from control_plane.datasets.rows import DatasetRow, JobDatasetRow
from control_plane.deployments.rows import (
    AdapterRow,
    DeploymentEventRow,
    DeploymentLineRow,
    DeploymentRow,
    InferenceWorkerRow,
    NameRow,
    ReplicaRow,
    RevisionRow,
)
from control_plane.jobs.rows import JobEventRow, JobLogRow, JobMetricRow, JobRow
from control_plane.models.rows import CheckpointRow, JobModelRow, ModelRow
from control_plane.retention.rows import PruneRow
from control_plane.storage.rows import TrashRow
from control_plane.sweeps.rows import SweepRow, TrialRow
from control_plane.tokens.rows import TokenRow
from control_plane.webhooks.rows import DeliveryRow, WebhookRow
from control_plane.workers.rows import PresenceRow, WorkerRow

TABLES = (
    AdapterRow,
    CheckpointRow,
    DatasetRow,
    DeliveryRow,
    DeploymentEventRow,
    DeploymentLineRow,
    DeploymentRow,
    InferenceWorkerRow,
    JobDatasetRow,
    JobEventRow,
    JobLogRow,
    JobMetricRow,
    JobModelRow,
    JobRow,
    KeyRow,
    ModelRow,
    NameRow,
    PresenceRow,
    ProjectRow,
    PruneRow,
    ReplicaRow,
    RevisionRow,
    SweepRow,
    TokenRow,
    TrashRow,
    TrialRow,
    WebhookRow,
    WorkerRow,
)
metadata = SQLModel.metadata
