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
from control_plane.gateway.rows import GatewayLifeRow
from control_plane.jobs.rows import JobEventRow, JobLogRow, JobMetricRow, JobRow
from control_plane.models.rows import CheckpointRow, JobModelRow, ModelRow
from control_plane.providers.rows import ProviderRow
from control_plane.retention.rows import PruneRow
from control_plane.routing.rows import DecisionRow, FeedbackRow, LessonRow, RouteRow
from control_plane.storage.rows import TrashRow
from control_plane.sweeps.rows import SweepRow, TrialRow
from control_plane.tokens.rows import TokenRow
from control_plane.usage.rows import LoggedRequestRow, UsageRow
from control_plane.webhooks.rows import DeliveryRow, WebhookRow
from control_plane.workers.rows import PresenceRow, WorkerRow

TABLES = (
    AdapterRow,
    CheckpointRow,
    DatasetRow,
    DecisionRow,
    DeliveryRow,
    DeploymentEventRow,
    DeploymentLineRow,
    DeploymentRow,
    FeedbackRow,
    GatewayLifeRow,
    InferenceWorkerRow,
    JobDatasetRow,
    JobEventRow,
    JobLogRow,
    JobMetricRow,
    JobModelRow,
    JobRow,
    KeyRow,
    LessonRow,
    LoggedRequestRow,
    ModelRow,
    NameRow,
    PresenceRow,
    ProjectRow,
    ProviderRow,
    PruneRow,
    ReplicaRow,
    RevisionRow,
    RouteRow,
    SweepRow,
    TokenRow,
    TrashRow,
    TrialRow,
    UsageRow,
    WebhookRow,
    WorkerRow,
)
metadata = SQLModel.metadata
