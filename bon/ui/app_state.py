"""`AppState`: what the handlers of one page share."""

from bon.ui.batch.jobs import Batches
from bon.ui.hosting import sizes
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.uploads import Uploads
from bon.ui.work.model_loading import ModelLoader
from bon.ui.work.priority import WaitingRuns
from bon.ui.work.runs import Runs
from bon.ui.work.speed_estimate import Speeds


class AppState:
    """A page's deployment, models, runs, batches and uploads; made at launch and passed to `page.build`."""

    models: ModelLoader
    speeds: Speeds
    waiting: WaitingRuns
    runs: Runs
    batches: Batches
    uploads: Uploads

    def __init__(self, deployment: Deployment):
        self.deployment = deployment
        self.models = ModelLoader(deployment)
        self.speeds = Speeds()
        self.waiting = WaitingRuns()
        self.runs = Runs(self.models, self.waiting, self.speeds)
        self.batches = Batches(self.waiting)
        self.uploads = Uploads(sizes.visitor_upload_bytes(deployment))
