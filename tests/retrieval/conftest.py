from tests.planted import retrieval_setting

__all__ = ['retrieval_setting']
