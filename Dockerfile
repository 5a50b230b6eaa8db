# clipwise on a CPU: docker build -t clipwise . && docker run --rm -v "$PWD:/work" clipwise predict best.safetensors video.mp4
# Serve: docker run --rm -p 8000:8000 -v "$PWD:/work" clipwise serve best.safetensors --host 0.0.0.0
FROM python:3.13-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY constraints.txt ./
# torch first and by itself: its layer stays while the code changes
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/venv/bin/pip install --no-cache-dir -c constraints.txt ".[serve,export]"

FROM python:3.13-slim
RUN useradd --create-home --uid 1000 clipwise && mkdir /work && chown clipwise /work
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER clipwise
WORKDIR /work
EXPOSE 8000
ENTRYPOINT ["clipwise"]
CMD ["--help"]
