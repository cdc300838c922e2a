"""Component notify: the exit handler; says how the pipeline ended."""

from kfp.dsl import PipelineTaskFinalStatus, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def notify(status: PipelineTaskFinalStatus) -> None:
    """Report a failure in the log and as a failed run in MLflow."""
    from ddm_core.outcome import report_outcome

    report_outcome(status.state, status.error_message)
