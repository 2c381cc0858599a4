"""The stages that make models; each is named in pipeline.core.stage.STAGES."""
