"""What has nothing to do with medicine?"""
