"""Maven: resolves a Java class path from Maven Central; the artefacts stay in Maven's own repository.

Law: runs `mvn` once for each list of artefacts; the answer is kept beside the other downloads.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath"


def class_path(artefacts: Sequence[str], cache: Path) -> str:
    """Return the class path of artefacts and all they depend on.

    Args:
        artefacts: `group:name:version`; with a `!` behind it, that jar alone.
        cache: the folder where answers are kept.
    """
    cache.mkdir(parents=True, exist_ok=True)
    pom = "".join(map(_dependency, artefacts))
    name = hashlib.sha256(pom.encode()).hexdigest()[:16]
    answer = cache / f"{name}.classpath"
    if answer.exists():
        known = answer.read_text(encoding="utf-8").strip()
        if all(Path(jar).exists() for jar in known.split(":")):
            return known
    project = cache / f"{name}.xml"
    project.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        f"<groupId>unimsg.tests</groupId><artifactId>{name}</artifactId><version>1</version>"
        f"<packaging>pom</packaging><dependencies>{pom}</dependencies></project>",
        encoding="utf-8",
    )
    subprocess.run(
        [
            "mvn",
            "-q",
            "-B",
            "-ntp",
            "-f",
            project,
            PLUGIN,
            "-DincludeScope=runtime",
            f"-Dmdep.outputFile={answer}",
        ],
        check=True,
    )
    return answer.read_text(encoding="utf-8").strip()


def _dependency(artefact: str) -> str:
    group, name, version = artefact.rstrip("!").split(":")
    alone = (
        "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
        if artefact.endswith("!")
        else ""
    )
    return (
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>"
        f"{alone}</dependency>"
    )
