"""`headway worker TARGET`: execute the runs that servers on the same journal accept."""

from typing import Annotated

import typer

from headway.cli import options
from headway.cli.audit_option import audit_config
from headway.cli.config_option import ConfigOption, config_of
from headway.cli.encryption_option import chosen_encryption
from headway.cli.environment import take_secrets
from headway.cli.exit_codes import Refused, report_line
from headway.errors import SetupError
from headway.settings import Settings, is_name, with_values


def worker(
    context: typer.Context,
    target: options.Target,
    config: ConfigOption = None,
    journal: Annotated[
        str | None,
        typer.Option(
            "--journal",
            envvar="HEADWAY_JOURNAL",
            metavar="URL",
            help="The journal of the servers, in Redis: redis://host:6379/0.",
        ),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            envvar="HEADWAY_QUEUE",
            metavar="NAME",
            help="A queue to take runs from; may be repeated. Default: those of the target's "
            "tools, and the one of tools that name none.",
        ),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option(
            envvar="HEADWAY_CONCURRENCY",
            min=1,
            help="How many runs of each queue are executed at once.",
        ),
    ] = 10,
    progress_rate: options.ProgressRate = 4.0,
    timeout: options.Timeout = "24h",  # pyright: ignore[reportArgumentType]
    grace: options.Grace = "30s",  # pyright: ignore[reportArgumentType]
    health_port: Annotated[
        int | None,
        typer.Option(
            envvar="HEADWAY_HEALTH_PORT",
            min=1,
            max=65535,
            help="Answer /healthz and /readyz on this port.",
        ),
    ] = None,
    audit: options.Audit = None,
    encryption_keys: options.EncryptionKeys = None,
    loop: options.Loop = "auto",
    set_: options.Values = None,
    log_level: options.LogLevel = "info",
    log_format: options.LogFormat = "text",
    log_config: options.LogConfig = None,
) -> None:
    """Execute the runs that servers on the same journal in Redis leave to workers."""
    from headway.cli import target as targets
    from headway.cli.log_output import setup, unblocked_output

    if journal is None:
        raise SetupError("a worker needs the journal of its servers: --journal redis://host:6379/0")
    for name in queue or ():
        if not is_name(name):
            raise Refused(f"{name!r} is no queue; a name has letters, digits, - and _")
    limits = (*config_of(context).limits, *(set_ or ()))
    encryption = chosen_encryption(context, encryption_keys)
    chosen = Settings(progress_rate=progress_rate, timeout=timeout, encryption=encryption)
    settings = with_values(chosen, limits)
    unblocked_output.make_output_unblocked()
    setup.configure_logging(log_level, setup.LogOptions(log_format, config=log_config))
    take_secrets()
    loaded = targets.load_target(target)
    setup.check_log_setup()
    from headway.cli.server.worker_server import work_until_stopped
    from headway.worker_app import Worker

    made = Worker(
        loaded.server,
        journal=journal,
        settings=settings,
        queues=queue,
        concurrency=concurrency,
        audit=audit_config(context, audit),
    )
    shown = ", ".join(made.queues)

    def announce() -> None:
        report_line(f"working for {made.name}: {shown}, {concurrency} at once (Ctrl+C to stop)")

    work_until_stopped(made, grace=grace, announce=announce, probe=health_port, loop=loop)
